"""ossia.v1.Engine in front of one engine. Everything here runs on the event loop."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import grpc
from google.protobuf import empty_pb2
from grpc import aio

from ossia.v1 import engine_pb2, engine_pb2_grpc
from workers.engine.engine import Engine
from workers.engine.errors import Refusal
from workers.engine.report import Load, Output, Report
from workers.leader import codec
from workers.leader.admission import Admission
from workers.leader.grammars import Grammars
from workers.leader.journal import Journal
from workers.leader.stream import Stream
from workers.leader.watchers import KvWatcher

DEFAULT_INTERVAL_MS = 50


class Service(engine_pb2_grpc.EngineServicer):
    """`card` is what Describe answers, `ready` apart. `deliver` must be called with every report of the engine."""

    def __init__(self, engine: Engine, card: engine_pb2.DescribeResponse, journal: Journal, grammars: Grammars) -> None:
        self.ready = asyncio.Event()  # set once the engine has generated a token
        self._engine = engine
        self._card = card
        self._journal = journal
        self._admission = Admission(engine, journal, grammars, self._tell)
        self._load = Load(kv_tokens_total=engine.limits.kv_tokens)
        self._streams: dict[int, Stream] = {}
        self._numbers = count(1)
        self._watchers: set[asyncio.Event] = set()
        self._kv_watchers: set[KvWatcher] = set()

    def deliver(self, report: Report) -> None:
        """Hands a step's outputs to the streams that they belong to, and the rest to whoever watches."""
        self._journal.stepped(report)
        for output in report.outputs:
            number, rid = output.key
            if number in self._streams and not self._streams[number].add(rid, output):
                self._admission.cancel(output.key)
        for stream in self._streams.values():
            stream.note(report.load)
        if report.kv is not None:
            for watcher in self._kv_watchers:
                watcher.add(report.kv)
        self._update(report.load)

    def close(self, refusal: Refusal) -> None:
        """Refuses every submission from now on, and lets each stream end once nothing lives on it."""
        self._admission.close(refusal)
        for stream in self._streams.values():
            stream.finish()

    def fail(self, refusal: Refusal) -> None:
        """Ends every live request: the engine has ended before it ended them."""
        self.close(refusal)
        self._tell(*(Output(key, 0, end=refusal) for key in self._journal.live))
        for watcher in self._kv_watchers:
            watcher.end(refusal)

    async def flushed(self) -> None:
        """Returns when every stream is over."""
        await asyncio.gather(*(stream.closed.wait() for stream in self._streams.values()))

    async def Session(  # type: ignore[override]  # the stubs know of generators alone, whose `finally` would come late
        self,
        request_iterator: AsyncIterator[engine_pb2.ClientFrame],
        context: aio.ServicerContext[engine_pb2.ClientFrame, engine_pb2.EngineFrame],
    ) -> None:
        if (closed := self._admission.closed) is not None:
            await context.abort(codec.CODES[closed.cause], closed.message)
        stream = self._open()
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(stream, request_iterator))
                async for frame in stream.frames():
                    await context.write(frame)
                reader.cancel()
        finally:
            self._drop(stream)

    async def Describe(
        self, request: engine_pb2.DescribeRequest, context: aio.ServicerContext[object, object]
    ) -> engine_pb2.DescribeResponse:
        card = engine_pb2.DescribeResponse(ready=self.ready.is_set())
        card.MergeFrom(self._card)
        return card

    async def WatchLoad(
        self, request: engine_pb2.WatchLoadRequest, context: aio.ServicerContext[engine_pb2.WatchLoadRequest, engine_pb2.Load]
    ) -> AsyncIterator[engine_pb2.Load]:
        interval_ms = request.min_interval_ms if request.HasField("min_interval_ms") else DEFAULT_INTERVAL_MS
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            while True:
                yield codec.load(self._load)
                await asyncio.sleep(interval_ms / 1e3)
                await changed.wait()
                changed.clear()
        finally:
            self._watchers.discard(changed)

    async def WatchKv(
        self, request: engine_pb2.WatchKvRequest, context: aio.ServicerContext[engine_pb2.WatchKvRequest, engine_pb2.KvEvents]
    ) -> AsyncIterator[engine_pb2.KvEvents]:
        watcher = KvWatcher()
        self._kv_watchers.add(watcher)
        if not self._engine.done.done():  # else nothing answers; where it ends later, `fail` ends the watcher
            snapshot = asyncio.wrap_future(self._engine.snapshot())
            snapshot.add_done_callback(lambda taken: watcher.begin(taken.result()))
        elif self._admission.closed is not None:
            watcher.end(self._admission.closed)
        try:
            while True:
                yield codec.kv_events(await watcher.take(), self._card.epoch, self._engine.limits.block_size)
        except Refusal as refusal:
            await context.abort(codec.CODES[refusal.cause], refusal.message)
        finally:
            self._kv_watchers.discard(watcher)

    async def Drain(self, request: empty_pb2.Empty, context: aio.ServicerContext[object, object]) -> None:  # type: ignore[override]
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Drain is not built yet")

    def _open(self) -> Stream:
        stream = Stream(next(self._numbers), self._card.epoch, self._load)
        self._streams[stream.number] = stream
        return stream

    def _drop(self, stream: Stream) -> None:
        for rid in stream.unfinished:
            self._admission.cancel((stream.number, rid))
        del self._streams[stream.number]
        stream.closed.set()

    async def _read(self, stream: Stream, frames: AsyncIterator[engine_pb2.ClientFrame]) -> None:
        async for frame in frames:
            for submit in frame.submits:
                await stream.room()
                self._admission.submit(stream, submit)
            for cancel in frame.cancels:
                self._admission.cancel((stream.number, cancel.rid))
                stream.abandon(cancel.rid)
            for credit in frame.credits:
                stream.grant(credit.rid, credit.tokens)
        stream.lift()

    def _tell(self, *outputs: Output) -> None:
        """Delivers what no step brought about."""
        self.deliver(Report(self._load, outputs, 0, 0.0))

    def _update(self, load: Load) -> None:
        if load.tokens_generated:
            self.ready.set()
        if load != self._load:
            for changed in self._watchers:
                changed.set()
        self._load = load
