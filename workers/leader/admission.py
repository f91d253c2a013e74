"""A Submit's way to the engine: checked, its grammar compiled, or ended before it gets there. Runs on the event loop."""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from ossia.v1 import engine_pb2
from workers.engine.engine import Engine
from workers.engine.errors import Refusal
from workers.engine.report import Output, Usage
from workers.engine.request import Finish, Key, Request
from workers.leader import codec
from workers.leader.grammars import Grammars
from workers.leader.journal import Journal
from workers.leader.stream import Stream


class _Compiling(NamedTuple):
    """A request whose grammar is being compiled: it lives on its stream, and the engine has not been given it."""

    submit: engine_pb2.Submit
    received: float  # time.monotonic
    task: asyncio.Task[None]


class Admission:
    """`tell` takes ends that no step brought about. Cancels reach a request wherever it is."""

    def __init__(self, engine: Engine, journal: Journal, grammars: Grammars, tell: Callable[[Output], None]) -> None:
        self.closed: Refusal | None = None
        self._engine = engine
        self._journal = journal
        self._grammars = grammars
        self._tell = tell
        self._compiling: dict[Key, _Compiling] = {}

    def close(self, refusal: Refusal) -> None:
        """Refuses what comes from now on, and what has not reached the engine."""
        self.closed = refusal
        for key in list(self._compiling):
            self._abort(key, refusal)

    def submit(self, stream: Stream, submit: engine_pb2.Submit) -> None:
        key, now = (stream.number, submit.rid), time.monotonic()
        try:
            if self.closed is not None:
                raise self.closed
            stream.check(submit.rid, resumed=len(submit.resume.tokens) > 0)
            request = codec.request(key, submit, self._engine.limits)
        except Refusal as refusal:
            self._journal.refused(submit, refusal)
            stream.refuse(submit.rid, refusal)
            return
        credit = submit.credit_tokens if submit.HasField("credit_tokens") else None
        stream.open(submit.rid, len(submit.resume.tokens), credit, submit.resume.prompt_logprobs)
        if submit.HasField("grammar"):
            self._compiling[key] = _Compiling(submit, now, asyncio.create_task(self._compile(request, submit, now)))
        else:
            self._start(request, submit, now)

    def cancel(self, key: Key) -> None:
        if key in self._compiling:
            self._abort(key, Finish.CANCELLED)
        else:
            self._engine.cancel(key)

    async def _compile(self, request: Request, submit: engine_pb2.Submit, received: float) -> None:
        left_s = submit.deadline_unix_ms / 1e3 - time.time() if submit.HasField("deadline_unix_ms") else None
        try:
            async with asyncio.timeout(left_s):
                await self._grammars.hold(request, submit)
        except Refusal as refusal:
            self._withdraw(request.key, refusal)
        except TimeoutError:
            self._withdraw(request.key, Finish.DEADLINE)
        else:
            del self._compiling[request.key]
            self._journal.compiled(received)
            self._start(request, submit, received)

    def _start(self, request: Request, submit: engine_pb2.Submit, received: float) -> None:
        self._journal.received(request.key, submit, received)
        self._engine.submit(request)

    def _abort(self, key: Key, end: Finish | Refusal) -> None:
        self._compiling[key].task.cancel()
        self._withdraw(key, end)

    def _withdraw(self, key: Key, end: Finish | Refusal) -> None:
        """Ends a request that the engine has not been given."""
        submit, received, _ = self._compiling.pop(key)
        output_tokens = len(submit.resume.tokens)
        if isinstance(end, Refusal):
            self._journal.refused(submit, end)
            self._tell(Output(key, output_tokens, end=end))
        else:
            self._journal.received(key, submit, received)
            self._tell(Output(key, output_tokens, end=end, usage=Usage(len(submit.prompt), output_tokens)))
