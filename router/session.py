"""The far side of a Session, in front of any Engine: runs one client's requests and gathers their deltas into frames."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

import grpc

from ossia.common.wire import FRAME_TOKENS
from ossia.v1.engine_pb2 import FINISH_REASON_CANCELLED, ClientFrame, Delta, EngineFrame, Submit
from router.deltas import cut, ended
from router.engine import Engine, EngineError

logger = logging.getLogger(__name__)
BEAT_S = 1.0  # a frame at least so often while requests live, so that the client sees the step counter move


@dataclass(eq=False)
class _Request:
    submit: Submit
    length: int  # output index up to which the client has been sent
    credit: float  # output index up to which it may be sent
    waiting: Delta | None = None
    sent: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def take(self) -> Delta | None:
        """What may be sent of what waits: log probabilities of the prompt whatever the credit, which is for output."""
        if self.waiting is None:
            return None
        room = int(min(self.credit - self.length, len(self.waiting.tokens)))
        if room == len(self.waiting.tokens):
            delta, self.waiting = self.waiting, None
            self.sent.set()
        elif room > 0 or self.waiting.prompt_logprobs:
            delta, self.waiting = cut(self.waiting, room)
        else:
            return None
        self.length += room
        return delta


class Session:
    """One client's requests. A request's next delta is asked for when the last one is in a frame: what comes meanwhile merges
    in the engine, so that a client without credit holds back its own tokens and nobody else's.
    """

    def __init__(self, engine: Engine) -> None:
        self.closed = asyncio.Event()  # set by whoever serves it, when the stream is over
        self._engine = engine
        self._live: dict[int, _Request] = {}
        self._due: dict[int, _Request] = {}  # those to look at for the next frame
        self._last: list[Delta] = []  # ends that no request stands behind any more
        self._wake = asyncio.Event()
        self._ending: EngineError | None = None

    def end(self, why: EngineError) -> None:
        """Refuses every further request with `why`; `frames` ends when those that live have."""
        self._ending = why
        self._wake.set()

    async def read(self, frames: AsyncIterator[ClientFrame]) -> None:
        """Takes in what the client says until it closes, which ends everything."""
        async for frame in frames:
            for submit in frame.submits:
                self._submit(submit)
            for cancel in frame.cancels:
                self._cancel(cancel.rid)
            for credit in frame.credits:
                if request := self._live.get(credit.rid):
                    request.credit += credit.tokens
                    self._look(request)
        await self.close()
        self.end(EngineError(grpc.StatusCode.CANCELLED, "the client closed the session"))

    async def frames(self) -> AsyncIterator[EngineFrame]:
        """A frame of deltas, `epoch`, `step` and `load` unset, whenever there are any, and an empty one every BEAT_S while
        requests live.
        """
        while self._live or self._last or not self._ending:
            try:
                async with asyncio.timeout(BEAT_S if self._live else None):
                    await self._wake.wait()
                await asyncio.sleep(0)  # whatever else becomes available in this turn of the loop joins the frame
            except TimeoutError:
                pass
            self._wake.clear()
            if (frame := self._frame()).deltas or self._live:
                yield frame

    async def close(self) -> None:
        """Cancels every request; returns when the engine has let go of them."""
        tasks = [request.task for request in self._live.values() if request.task]
        self._live.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _frame(self) -> EngineFrame:
        deltas, self._last = self._last, []
        tokens = 0
        while self._due and tokens < FRAME_TOKENS:
            rid = next(iter(self._due))
            if delta := self._due.pop(rid).take():
                tokens += len(delta.tokens) + len(delta.prompt_logprobs)
                deltas.append(delta)
                if ended(delta):
                    self._live.pop(rid, None)
        if self._due:
            self._wake.set()
        return EngineFrame(deltas=deltas)

    def _submit(self, submit: Submit) -> None:
        if self._ending or submit.rid in self._live:
            taken = EngineError(grpc.StatusCode.INVALID_ARGUMENT, f"rid {submit.rid} is live on this session", field="rid")
            self._last.append(Delta(rid=submit.rid, error=(self._ending or taken).status()))
            self._wake.set()
            return
        length = len(submit.resume.tokens)
        credit = length + submit.credit_tokens if submit.HasField("credit_tokens") else float("inf")
        self._live[submit.rid] = request = _Request(submit, length, credit)
        request.task = asyncio.create_task(self._run(request))
        self._wake.set()  # to a frame, so that the beats begin

    async def _run(self, request: _Request) -> None:
        try:
            async with aclosing(self._engine.generate(request.submit)) as deltas:
                async for delta in deltas:
                    delta.rid = request.submit.rid
                    request.waiting = delta
                    request.sent.clear()
                    self._look(request)
                    await request.sent.wait()
        except EngineError as error:
            self._fail(request, error)
        except Exception:
            logger.exception("a request failed by our own fault", extra={"request_id": request.submit.request_id})
            self._fail(request, EngineError(grpc.StatusCode.INTERNAL, "this router failed", reason="BUG"))

    def _fail(self, request: _Request, error: EngineError) -> None:
        if self._live.get(request.submit.rid) is request:  # else it is cancelled, and nobody listens
            del self._live[request.submit.rid]
            self._last.append(Delta(rid=request.submit.rid, first_index=request.length, error=error.status()))
            self._wake.set()

    def _cancel(self, rid: int) -> None:
        request = self._live.pop(rid, None)
        if request is None or request.task is None:
            return
        request.task.cancel()
        self._due.pop(rid, None)  # nothing follows the end
        delta = Delta(rid=rid, first_index=request.length, finish=FINISH_REASON_CANCELLED)
        delta.usage.prompt_tokens = len(request.submit.prompt)
        delta.usage.output_tokens = request.length
        self._last.append(delta)
        self._wake.set()

    def _look(self, request: _Request) -> None:
        self._due[request.submit.rid] = request
        self._wake.set()
