"""ossia.v1.Engine in front of a router: a router is an engine made of engines."""

import asyncio
from collections.abc import AsyncIterator

import grpc
from google.protobuf import empty_pb2
from grpc import aio

from ossia.v1 import engine_pb2, engine_pb2_grpc
from router.engine import EngineError
from router.router import Router
from router.session import Session

DEFAULT_INTERVAL_MS = 50


class RouterService(engine_pb2_grpc.EngineServicer):
    """A step of a router is a frame that it sends, to whichever client. `own` is the process that the router is."""

    def __init__(self, router: Router, own: engine_pb2.Process | None = None) -> None:
        self._router = router
        self._own = own
        self._step = 0
        self._sessions: set[Session] = set()
        self._ending: EngineError | None = None

    def drain(self) -> None:
        """Refuses new requests; every session ends once its requests have."""
        self._ending = EngineError(grpc.StatusCode.UNAVAILABLE, "this router is stopping", reason="STOPPING", retry_after_s=1)
        for session in self._sessions:
            session.end(self._ending)

    async def drained(self) -> None:
        """Returns when every session is over."""
        await asyncio.gather(*(session.closed.wait() for session in self._sessions))

    async def Session(  # type: ignore[override]  # written to, not iterated: a generator's `finally` would come late
        self,
        request_iterator: AsyncIterator[engine_pb2.ClientFrame],
        context: aio.ServicerContext[engine_pb2.ClientFrame, engine_pb2.EngineFrame],
    ) -> None:
        session = Session(self._router)
        self._sessions.add(session)
        if self._ending:
            session.end(self._ending)
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(session.read(request_iterator))
                async for frame in session.frames():
                    self._step += 1
                    frame.epoch, frame.step = self._router.epoch, self._step
                    frame.load.CopyFrom(self._load())
                    await context.write(frame)
                reader.cancel()
        finally:
            await session.close()
            self._sessions.discard(session)
            session.closed.set()

    async def Describe(
        self, request: engine_pb2.DescribeRequest, context: aio.ServicerContext[object, object]
    ) -> engine_pb2.DescribeResponse:
        try:
            card = await self._router.describe()
        except EngineError as error:
            return await context.abort(error.code, error.message)
        if self._own:
            card.processes.append(self._own)
        return card

    async def WatchLoad(
        self, request: engine_pb2.WatchLoadRequest, context: aio.ServicerContext[object, object]
    ) -> AsyncIterator[engine_pb2.Load]:
        interval_ms = request.min_interval_ms if request.HasField("min_interval_ms") else DEFAULT_INTERVAL_MS
        last: engine_pb2.Load | None = None
        while True:
            if (load := self._load()) != last:
                yield load
            last = load
            await asyncio.sleep(max(interval_ms, 1) / 1000)  # many replicas' loads change: sampled, not followed one by one

    async def WatchKv(  # type: ignore[override]
        self, request: engine_pb2.WatchKvRequest, context: aio.ServicerContext[engine_pb2.WatchKvRequest, engine_pb2.KvEvents]
    ) -> None:
        message = "a router has no KV cache: watch its replicas, which Describe and the fleet name"
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, message)

    async def Drain(self, request: empty_pb2.Empty, context: aio.ServicerContext[object, object]) -> None:  # type: ignore[override]
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Drain is not built yet")

    def _load(self) -> engine_pb2.Load:
        load = self._router.load()
        load.step = self._step
        return load
