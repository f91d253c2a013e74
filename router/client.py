"""The near side of a Session: one stream to one engine, every request multiplexed over it. One life: it never reconnects."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import grpc
from grpc import aio

from ossia.common import wire
from ossia.v1.engine_pb2 import (
    Cancel,
    ClientFrame,
    Credit,
    Delta,
    DescribeRequest,
    DescribeResponse,
    EngineFrame,
    Load,
    Submit,
    WatchLoadRequest,
)
from ossia.v1.engine_pb2_grpc import EngineStub
from router.deltas import ended
from router.engine import EngineError
from router.mailbox import Mailbox
from router.watchdog import Watchdog

WINDOW = 256  # tokens that an engine may send ahead of the consumer
MAX_GAPS = 3  # resubmissions of one request after lost tokens
FRAME_BYTES = 4 << 20  # of submits in a message: all that ran on a lost replica may come at once, and holds the far side up
LOAD_MS = 500  # between loads that the engine tells while no frame does


@dataclass(eq=False)
class _Request:
    submit: Submit
    mailbox: Mailbox
    granted: int  # output index up to which the engine may send
    consumed: int = 0  # tokens taken by the consumer and not granted anew
    gaps: int = 0

    @property
    def due(self) -> bool:
        """Whether the engine has something to do for it: without credit it may rest."""
        return self.granted > len(self.mailbox.output)


class EngineClient:
    """An `Engine` at host:port. When its stream breaks (`LOST`) or its steps stand still (`STALLED`), every request on it
    raises EngineError UNAVAILABLE with that reason once its consumer has taken what had arrived.

    `on_trouble` is called at once with every UNAVAILABLE: these two, lost tokens (`GAP`) and the engine's own.
    """

    def __init__(
        self,
        address: str,
        token: str | None = None,
        *,
        stall_floor_s: float = 10.0,
        on_trouble: Callable[[EngineError], None] = lambda error: None,
    ) -> None:
        self.address = address
        self.card = DescribeResponse()
        self.load = Load()
        self.lost = False
        self._channel = wire.channel(address, token)
        self._stub = EngineStub(self._channel)
        self._stall_floor_s = stall_floor_s
        self._on_trouble = on_trouble
        self._watchdog = Watchdog(stall_floor_s, self._busy, self._stall)
        self._rids = count(1)
        self._live: dict[int, _Request] = {}
        self._outgoing = ClientFrame()
        self._unsent = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Asks the engine what it is and opens the session; raises EngineError."""
        self.card = await self.describe()
        self._tasks = [asyncio.create_task(self._receive_all()), asyncio.create_task(self._follow_load())]

    async def close(self) -> None:
        """Ends the session and, with it, every request on the engine."""
        if not self.lost:
            self._end("this end closed the session")
        for task in self._tasks:
            task.cancel()
        try:
            if self._tasks:
                await asyncio.wait(self._tasks)  # a cancel of whoever closes is theirs: it must not be taken for one of these
        finally:
            await self._channel.close()
        for task in self._tasks:
            if not task.cancelled():
                task.result()

    async def describe(self) -> DescribeResponse:
        try:
            return await self._stub.Describe(DescribeRequest(), timeout=self._stall_floor_s)
        except aio.AioRpcError as error:
            refused = error.code() is grpc.StatusCode.UNAUTHENTICATED
            code = grpc.StatusCode.UNAUTHENTICATED if refused else grpc.StatusCode.UNAVAILABLE
            raise EngineError(code, f"{self.address}: {error.code().name}: {error.details()}", reason="LOST") from error

    async def generate(self, submit: Submit) -> AsyncGenerator[Delta, None]:
        request = self._open(submit)
        try:
            while True:
                delta = await request.mailbox.take()
                yield delta
                if ended(delta):
                    return
                self._consume(request, len(delta.tokens))
        finally:
            self._drop(request)

    # ------------------------------------------------------------ outgoing

    def _open(self, submit: Submit) -> _Request:
        if self.lost:
            raise EngineError(grpc.StatusCode.UNAVAILABLE, f"{self.address}: no session", reason="LOST")
        own = Submit()
        own.CopyFrom(submit)
        request = _Request(own, Mailbox(submit.resume.tokens, submit.resume.prompt_logprobs), granted=0)
        self._submit(request)
        return request

    def _submit(self, request: _Request) -> None:
        """Puts the request to the engine, under a new rid, from what it has had so far."""
        self._watchdog.expect()
        output, submit = request.mailbox.output, request.submit
        submit.rid = next(self._rids)
        submit.credit_tokens = WINDOW
        if output or request.mailbox.told:
            submit.resume.tokens[:] = output
            submit.resume.prompt_logprobs = request.mailbox.told
        request.granted = len(output) + WINDOW
        request.consumed = 0
        self._live[submit.rid] = request
        self._outgoing.submits.append(submit)
        self._unsent.set()

    def _consume(self, request: _Request, tokens: int) -> None:
        request.consumed += tokens
        if request.consumed < WINDOW // 2 or request.submit.rid not in self._live:
            return
        self._watchdog.expect()
        self._outgoing.credits.append(Credit(rid=request.submit.rid, tokens=request.consumed))
        request.granted += request.consumed
        request.consumed = 0
        self._unsent.set()

    def _drop(self, request: _Request) -> None:
        if self._live.pop(request.submit.rid, None) is not None:
            self._outgoing.cancels.append(Cancel(rid=request.submit.rid))
            self._unsent.set()

    async def _frames(self) -> AsyncIterator[ClientFrame]:
        while True:
            await self._unsent.wait()
            self._unsent.clear()
            if self.lost:  # grpc leaves it to this generator to end
                return
            frame, self._outgoing = self._outgoing, ClientFrame()
            for part in _parts(frame) if len(frame.submits) > 1 else (frame,):
                yield part

    # ------------------------------------------------------------ incoming

    async def _receive_all(self) -> None:
        try:
            async for frame in self._stub.Session(self._frames()):
                if frame.epoch != self.card.epoch:
                    return self._lose("another process answers at this address")
                self._receive(frame)
        except aio.AioRpcError as error:
            self._lose(f"{error.code().name}: {error.details()}")
        finally:
            self._lose("the session ended")

    async def _follow_load(self) -> None:
        with suppress(aio.AioRpcError):  # it is the session that tells of the engine's end
            async for load in self._stub.WatchLoad(WatchLoadRequest(min_interval_ms=LOAD_MS)):
                self.load.CopyFrom(load)

    def _receive(self, frame: EngineFrame) -> None:
        if frame.HasField("load"):
            self.load.CopyFrom(frame.load)
        self._watchdog.beat(frame.step, delivered=bool(frame.deltas))
        for delta in sorted(frame.deltas, key=_later):  # whoever takes a delta first writes first
            if request := self._live.get(delta.rid):
                self._deliver(request, delta)

    def _deliver(self, request: _Request, delta: Delta) -> None:
        if delta.HasField("error"):
            del self._live[delta.rid]
            self._fail(request, EngineError.from_status(delta.error))
        elif not request.mailbox.put(delta):
            self._recover(request)
        elif ended(delta):
            del self._live[delta.rid]

    def _recover(self, request: _Request) -> None:
        """Tokens were lost on the way: asks for them again."""
        self._drop(request)
        request.gaps += 1
        if request.gaps > MAX_GAPS:
            message = f"{self.address} skipped tokens {request.gaps} times"
            self._fail(request, EngineError(grpc.StatusCode.UNAVAILABLE, message, reason="GAP"))
        else:
            self._submit(request)

    # ------------------------------------------------------------ trouble

    def _busy(self) -> bool:
        """The engine has something to do."""
        return any(request.due for request in self._live.values())

    def _stall(self) -> None:
        error = EngineError(grpc.StatusCode.UNAVAILABLE, f"{self.address} has work and does not step", reason="STALLED")
        for request in list(self._live.values()):
            self._drop(request)
            request.mailbox.fail(error)
        self._on_trouble(error)

    def _fail(self, request: _Request, error: EngineError) -> None:
        request.mailbox.fail(error)
        if error.code is grpc.StatusCode.UNAVAILABLE:
            self._on_trouble(error)

    def _lose(self, why: str) -> None:
        if not self.lost:
            self._on_trouble(self._end(why))

    def _end(self, why: str) -> EngineError:
        """Fails whatever runs; returns what it fails with."""
        self.lost = True
        self._unsent.set()
        self._watchdog.close()
        error = EngineError(grpc.StatusCode.UNAVAILABLE, f"{self.address}: {why}", reason="LOST")
        for request in self._live.values():
            request.mailbox.fail(error)
        self._live.clear()
        return error


def _parts(frame: ClientFrame) -> Iterator[ClientFrame]:
    """The frame in messages that gRPC takes. Cancels and credits come last, for they may be of these submits."""
    part, size = ClientFrame(), 0
    for submit in frame.submits:
        size += submit.ByteSize()
        if size > FRAME_BYTES and part.submits:
            yield part
            part, size = ClientFrame(), submit.ByteSize()
        part.submits.append(submit)
    part.cancels.extend(frame.cancels)
    part.credits.extend(frame.credits)
    yield part


def _later(delta: Delta) -> bool:
    """Not a request's first tokens, which the engine tells last and a client waits for most."""
    return delta.first_index > 0
