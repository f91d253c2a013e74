"""A scriptable Engine server for tests: real gRPC on a free loopback port, tokens a pure function of (prompt, seed, position).

It steps by itself every `step_s`, or, with `step_s=None`, whenever the test calls `step()`. Each step gives every running
request one token and every session that has requests one frame. Trouble is set on the instance while it runs.
"""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import grpc
from google.rpc import status_pb2
from grpc import aio
from grpc_health.v1 import health_pb2

from ossia.common import wire
from ossia.v1 import engine_pb2, engine_pb2_grpc

VOCABULARY = 1000
STOP_TOKEN = 999
Generate = Callable[[Sequence[int], int, int], int]
_epochs = count(1)


def token(prompt: Sequence[int], seed: int, position: int) -> int:
    """The output token at `position`; never STOP_TOKEN."""
    return zlib.crc32(repr((list(prompt), seed, position)).encode()) % (VOCABULARY - 1)


def undisturbed(submit: engine_pb2.Submit, generate: Generate = token, default_length: int = 32) -> list[int]:
    """The whole output of a request that nothing happens to."""
    request = _Request(submit, generate, default_length, output=[])
    while not request.done:
        request.advance()
    return request.output


@dataclass(eq=False)
class _Request:
    submit: engine_pb2.Submit
    generate: Generate
    default_length: int
    output: list[int]  # generated so far, resumed tokens included
    sent: int = 0  # tokens sent
    credit: float = float("inf")  # output index up to which it may send
    told: int = 0  # log probabilities of the prompt sent, delivered ones included

    @property
    def untold(self) -> int:
        """Log probabilities of the prompt that are still to be sent, before any output."""
        asked = self.submit.sampling.HasField("prompt_logprobs") and not self.submit.resume.tokens
        return max(0, len(self.submit.prompt) - 1 - self.told) if asked else 0

    @property
    def stopped(self) -> bool:
        return bool(self.output) and self.output[-1] in {STOP_TOKEN, *self.submit.sampling.stop_token_ids}

    @property
    def done(self) -> bool:
        sampling = self.submit.sampling
        limit = sampling.max_tokens if sampling.HasField("max_tokens") else self.default_length
        return self.stopped or len(self.output) >= limit

    def advance(self) -> None:
        self.output.append(self.generate(self.submit.prompt, self.submit.sampling.seed, len(self.output)))


@dataclass(eq=False)
class _Session:
    frame: engine_pb2.EngineFrame = field(default_factory=engine_pb2.EngineFrame)
    running: dict[int, "_Request"] = field(default_factory=dict)
    due: asyncio.Event = field(default_factory=asyncio.Event)
    broken: bool = False


class FakeEngine(engine_pb2_grpc.EngineServicer):
    """One engine; `async with FakeEngine(...) as engine` serves it at `engine.address`."""

    def __init__(
        self,
        *,
        step_s: float | None = 0.001,
        generate: Generate = token,
        default_length: int = 32,
        model_names: Sequence[str] = ("fake",),
        cluster_token: str | None = None,
    ) -> None:
        self.step_s = step_s
        self.generate = generate
        self.default_length = default_length  # of the output, where max_tokens is absent
        self.model_names = tuple(model_names)
        self.cluster_token = cluster_token
        self.epoch = next(_epochs)
        self.ready = True
        self.ranks = [engine_pb2.Rank(rank=0, pid=1, node="fake", metrics_address="127.0.0.1:1")]
        self.address = ""
        # What a test may set at any time:
        self.refusal: status_pb2.Status | None = None  # answers every Submit with this
        self.mangle: Callable[[engine_pb2.Delta], list[engine_pb2.Delta]] = lambda delta: [delta]  # on its way out
        self.stalled = False
        self.closed = False  # to sessions: each is aborted at once, Describe answers all the same
        # What a test may look at:
        self.submits: list[engine_pb2.Submit] = []
        self.cancels: list[int] = []
        self.steps = 0
        self.generated = 0
        self._sessions: list[_Session] = []
        self._happened = asyncio.Event()
        self._stepper: asyncio.Task[None] | None = None
        self._server: aio.Server | None = None

    # ------------------------------------------------------------ life

    async def start(self, port: int = 0) -> str:
        """Serves on loopback (port 0: a free one) and returns host:port."""
        self._server, health = wire.server(self.cluster_token)
        engine_pb2_grpc.add_EngineServicer_to_server(self, self._server)
        await health.set("", health_pb2.HealthCheckResponse.SERVING)
        self.address = wire.bind(self._server, "127.0.0.1", port)
        await self._server.start()
        self._stepper = asyncio.create_task(self._run())
        return self.address

    async def kill(self) -> None:
        """Closes the port and breaks every stream, as the death of the process does."""
        if self._stepper is not None and self._server is not None:
            self._stepper.cancel()
            self.break_sessions()
            await self._server.stop(0)
            await asyncio.gather(self._stepper, return_exceptions=True)
        self._stepper = self._server = None

    async def __aenter__(self) -> "FakeEngine":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    def break_sessions(self) -> None:
        """Aborts every open Session with UNAVAILABLE; the port stays open."""
        for session in self._sessions:
            session.broken = True
            session.due.set()

    def stall(self) -> None:
        """Goes on accepting, never steps."""
        self.stalled = True

    def resume(self) -> None:
        self.stalled = False
        self._notify()

    # ------------------------------------------------------------ steps

    def step(self) -> None:
        """One step: every running request gains a token, every session with requests a frame."""
        self.steps += 1
        for session in self._sessions:
            for request in list(session.running.values()):
                self._advance(session, request)
                session.due.set()
        self._notify()

    def _advance(self, session: _Session, request: _Request) -> None:
        scores = min(1, request.untold)
        if not scores and not request.done:
            request.advance()
            self.generated += 1
        end = int(min(len(request.output), request.credit))
        finished = not scores and request.done and end == len(request.output)
        if end > request.sent or scores or finished:
            delta = self._delta(request, end, scores)
            request.sent = end
            request.told += scores
            if finished:
                delta.finish = engine_pb2.FINISH_REASON_STOP if request.stopped else engine_pb2.FINISH_REASON_LENGTH
                delta.usage.prompt_tokens = len(request.submit.prompt)
                delta.usage.output_tokens = len(request.output)
                del session.running[request.submit.rid]
            session.frame.deltas.extend(self.mangle(delta))

    def _delta(self, request: _Request, end: int, scores: int) -> engine_pb2.Delta:
        tokens, told = request.output[request.sent : end], request.told
        delta = engine_pb2.Delta(rid=request.submit.rid, first_index=request.sent, tokens=tokens, first_prompt_logprob=told)
        scored = request.submit.prompt[told + 1 : told + 1 + scores]
        delta.prompt_logprobs.extend(engine_pb2.TokenLogprobs(logprob=-t / 8) for t in scored)
        if request.submit.sampling.HasField("logprobs"):
            ids = range(request.submit.sampling.logprobs)
            delta.logprobs.extend(
                engine_pb2.TokenLogprobs(logprob=-t / 8, top_ids=ids, top_logprobs=[-1.0 - i for i in ids]) for t in tokens
            )
        return delta

    async def _run(self) -> None:
        while True:
            if self.step_s is None or self.stalled or not self.running:
                self._happened.clear()
                await self._happened.wait()
            else:
                await asyncio.sleep(self.step_s)
                if not self.stalled:
                    self.step()

    # ------------------------------------------------------------ what tests wait for

    @property
    def running(self) -> int:
        """Requests in flight, over all sessions."""
        return sum(len(session.running) for session in self._sessions)

    @property
    def asked(self) -> list[engine_pb2.Submit]:
        """The submits that are no router's probes."""
        return [submit for submit in self.submits if submit.request_id != "probe"]

    @property
    def sessions(self) -> int:
        return len(self._sessions)

    async def until(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Returns once `condition()` holds; looks whenever something happened here."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._happened.clear()
                await self._happened.wait()

    def _notify(self) -> None:
        self._happened.set()

    # ------------------------------------------------------------ the service

    async def Session(
        self, request_iterator: AsyncIterator[engine_pb2.ClientFrame], context: aio.ServicerContext
    ) -> AsyncIterator[engine_pb2.EngineFrame]:
        session = _Session(broken=self.closed)
        if self.closed:
            session.due.set()
        self._sessions.append(session)
        self._notify()
        reader = asyncio.create_task(self._read(session, request_iterator))
        try:
            while True:
                await session.due.wait()
                session.due.clear()
                if session.broken:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the engine died")
                frame, session.frame = session.frame, engine_pb2.EngineFrame()
                frame.epoch, frame.step = self.epoch, self.steps
                frame.load.CopyFrom(self.load())
                yield frame
        finally:
            reader.cancel()
            self._sessions.remove(session)
            self._notify()

    async def _read(self, session: _Session, frames: AsyncIterator[engine_pb2.ClientFrame]) -> None:
        with contextlib.suppress(aio.BaseError, asyncio.CancelledError):
            async for frame in frames:
                for submit in frame.submits:
                    self._accept(session, submit)
                for cancel in frame.cancels:
                    self.cancels.append(cancel.rid)
                    session.running.pop(cancel.rid, None)
                for credit in frame.credits:
                    if request := session.running.get(credit.rid):
                        request.credit += credit.tokens
                self._notify()

    def _accept(self, session: _Session, submit: engine_pb2.Submit) -> None:
        self.submits.append(submit)
        if self.refusal is not None:
            session.frame.deltas.append(engine_pb2.Delta(rid=submit.rid, error=self.refusal))
            session.due.set()
            return
        output = list(submit.resume.tokens)
        credit = len(output) + submit.credit_tokens if submit.HasField("credit_tokens") else float("inf")
        told = submit.resume.prompt_logprobs
        request = _Request(submit, self.generate, self.default_length, output, len(output), credit, told)
        session.running[submit.rid] = request

    def load(self) -> engine_pb2.Load:
        return engine_pb2.Load(
            step=self.steps,
            running=self.running,
            kv_tokens_total=1 << 16,
            step_p99_ms=1000 * (self.step_s or 0),
            tokens_generated=self.generated,
        )

    async def Describe(self, request: engine_pb2.DescribeRequest, context: aio.ServicerContext) -> engine_pb2.DescribeResponse:
        return engine_pb2.DescribeResponse(
            epoch=self.epoch,
            model_names=self.model_names,
            ready=self.ready,
            max_context=8192,
            vocab_size=VOCABULARY,
            stop_token_ids=[STOP_TOKEN],
            dtype="float32",
            layout=engine_pb2.Layout(ranks=1, experts="ep"),
            ranks=self.ranks,
        )

    async def WatchLoad(
        self, request: engine_pb2.WatchLoadRequest, context: aio.ServicerContext
    ) -> AsyncIterator[engine_pb2.Load]:
        yield self.load()
        while True:
            step = self.steps
            await self.until(lambda step=step: self.steps != step, timeout_s=3600)  # type: ignore[misc]
            yield self.load()

    async def WatchKv(self, request: object, context: aio.ServicerContext) -> None:  # type: ignore[override]
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not in a fake")

    async def Drain(self, request: object, context: aio.ServicerContext) -> None:  # type: ignore[override]
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not in a fake")
