"""One client's stream: its live requests, and the frames that tell it of them. Runs on the event loop alone."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from ossia.common.wire import FRAME_TOKENS
from ossia.v1 import engine_pb2
from workers.engine.errors import Cause, Refusal
from workers.engine.report import Load, Output
from workers.leader import codec
from workers.leader.outbox import Outbox

MAX_LIVE = 4096  # requests whose end the client has not been sent
MAX_REFUSED = 1024  # refusals that it has not been sent
MAX_UNSENT = 1 << 20  # tokens that it has not been sent, before it may ask for more
MOST_UNSENT = 2 * MAX_UNSENT  # and before requests end whose output does not fit
SHARE_UNSENT = MAX_UNSENT // MAX_LIVE  # of a request that has credit for all of it: so little fits always


class Stream:
    """Makes one frame a step while anything lives on it; a client that reads slowly gets several steps in one frame."""

    def __init__(self, number: int, epoch: int, load: Load) -> None:
        self.number = number
        self.closed = asyncio.Event()  # set by whoever serves it, when the stream is over
        self._epoch = epoch
        self._load = load
        self._live: dict[int, Outbox] = {}
        self._unsent = 0  # tokens in these
        self._changed: dict[int, None] = {}  # rids to look at, in order
        self._refused: list[engine_pb2.Delta] = []
        self._ending = False
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def unfinished(self) -> list[int]:
        """Rids that the engine is not done with."""
        return [rid for rid, outbox in self._live.items() if not outbox.ended]

    def check(self, rid: int, resumed: bool = False) -> None:
        """Raises Refusal where the rid is taken, or where the client does not take what it asked for; with resumed output it
        has been promised the rest.
        """
        if len(self._live) >= MAX_LIVE and not resumed:
            message = f"{MAX_LIVE} requests are live on this session"
            raise Refusal(Cause.EXHAUSTED, message, reason="SESSION_FULL", retry_after_s=1.0)
        if self._unsent >= MAX_UNSENT and not resumed:
            message = f"{MAX_UNSENT} tokens are not taken yet on this session"
            raise Refusal(Cause.EXHAUSTED, message, reason="SESSION_FULL", retry_after_s=1.0)
        if rid in self._live:
            raise Refusal(Cause.INVALID, f"rid {rid} is live on this session", reason="DUPLICATE_RID", field="rid")

    def open(self, rid: int, first_index: int, credit: int | None, first_prompt_logprob: int = 0) -> None:
        """Begins to follow a request."""
        self._live[rid] = Outbox(rid, first_index, credit, first_prompt_logprob)

    def refuse(self, rid: int, refusal: Refusal) -> None:
        """Answers a submission that did not become a request."""
        self._refused.append(engine_pb2.Delta(rid=rid, error=codec.status(refusal)))
        if len(self._refused) >= MAX_REFUSED:
            self._room.clear()
        self._wake.set()

    async def room(self) -> None:
        """Returns once the client takes its refusals: until then it has no more to ask."""
        await self._room.wait()

    def add(self, rid: int, output: Output) -> bool:
        """False where the client has not taken so much that the request has no room to go on, and is to be cancelled."""
        outbox = self._live[rid]
        with self._counting(outbox):
            outbox.add(output)
            fits = self._unsent + outbox.unsent <= MOST_UNSENT or (outbox.flows and outbox.unsent <= SHARE_UNSENT)
            if not fits:
                message = f"{MOST_UNSENT} tokens are not taken yet on this session"
                outbox.fail(Refusal(Cause.EXHAUSTED, message, reason="SESSION_FULL", retry_after_s=1.0))
        self._changed[rid] = None
        return fits or outbox.ended

    def note(self, load: Load) -> None:
        """A step is over; the client hears of it where something of it lives here."""
        self._load = load
        if self._live:
            self._wake.set()

    def grant(self, rid: int, tokens: int) -> None:
        outbox = self._live.get(rid)
        if outbox is not None:
            outbox.grant(tokens)
            self._look(rid)

    def abandon(self, rid: int) -> None:
        """The client has cancelled: nothing that the engine is done with waits for credit any longer."""
        outbox = self._live.get(rid)
        if outbox is not None and outbox.ended:
            with self._counting(outbox):
                outbox.abandon()
            self._look(rid)

    def lift(self) -> None:
        """The client will send no more frames, hence no credit."""
        for rid, outbox in self._live.items():
            outbox.lift()
            self._look(rid)
        self.finish()

    def finish(self) -> None:
        """Ends the stream once nothing lives on it."""
        self._ending = True
        self._wake.set()

    async def frames(self) -> AsyncIterator[engine_pb2.EngineFrame]:
        while self._live or self._refused or not self._ending:
            await self._wake.wait()
            self._wake.clear()
            if self._live or self._refused:
                yield self._frame()

    @contextmanager
    def _counting(self, outbox: Outbox) -> Iterator[None]:
        """Around what changes how much of it is unsent."""
        self._unsent -= outbox.unsent
        yield
        self._unsent += outbox.unsent

    def _look(self, rid: int) -> None:
        self._changed[rid] = None
        self._wake.set()

    def _frame(self) -> engine_pb2.EngineFrame:
        deltas, self._refused = self._refused, []
        self._room.set()
        tokens = 0
        while self._changed and tokens < FRAME_TOKENS:
            taken = self._take(next(iter(self._changed)))
            tokens += sum(len(delta.tokens) + len(delta.prompt_logprobs) for delta in taken)
            deltas += taken
        if self._changed:
            self._wake.set()
        return engine_pb2.EngineFrame(epoch=self._epoch, step=self._load.step, deltas=deltas, load=codec.load(self._load))

    def _take(self, rid: int) -> list[engine_pb2.Delta]:
        del self._changed[rid]
        outbox = self._live[rid]
        with self._counting(outbox):
            delta = outbox.take()
        if delta is None:
            return []
        if delta.WhichOneof("end"):
            del self._live[rid]
        return [delta]
