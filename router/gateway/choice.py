"""One answer of a request: from a Submit's deltas to pieces of what the client sees. Knows no endpoint."""

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Generic, Protocol, Self, TypeVar

from ossia.v1 import engine_pb2
from router.gateway.errors import Json, internal
from router.gateway.generation import FINISH, Source, Usage

DEAD_END: Json = {
    "type": "grammar",
    "message": "the grammar leaves nothing to say here: the output is cut off, and need not be what was asked for",
}
REPETITION: Json = {"type": "repetition", "message": "the output went on repeating itself: it is cut off"}
NO_ANSWER: Json = {"type": "no_answer", "message": "the model ended its turn with neither a word of an answer nor a call"}
_CUT = {
    FINISH.FINISH_REASON_LENGTH: None,
    FINISH.FINISH_REASON_GRAMMAR: DEAD_END,
    FINISH.FINISH_REASON_REPETITION: REPETITION,
}
"""Ends that are not the model's, and what there is to say of each."""


class Piece(Protocol):
    """What one delta added; `finish` in the last."""

    finish: str | None

    def add(self, later: Self) -> None:
        """Makes one piece of the two."""


P = TypeVar("P", bound=Piece)


class Choice(ABC, Generic[P]):
    """The output of one Submit, to be taken once. `names` as in `from_engine`."""

    def __init__(self, source: Source, submit: engine_pb2.Submit, names: Mapping[str, str]) -> None:
        self._source = source
        self._submit = submit
        self._names = names
        self.prompt: Sequence[int] = submit.prompt
        self.usage = Usage(len(submit.prompt))
        self.details: Json | None = None  # of its end, where `finish_reason` does not say all

    async def pieces(self) -> AsyncGenerator[P, None]:
        """One piece a delta. The engine is let go before the last is told, for its reader may be slow."""
        async with aclosing(self._source.generate(self._submit, self._names)) as deltas:
            async for delta in deltas:
                if delta.HasField("usage"):
                    self.usage.learn(delta.usage)
                piece = self._read(delta)
                if piece.finish is not None:
                    self.details = self._details(delta, piece.finish)
                    break
                yield piece
            else:
                raise internal()  # the engine ended without saying how
        await self._end()
        yield piece

    def _details(self, delta: engine_pb2.Delta, finish: str) -> Json | None:
        """What else there is to say of the end, which the client knows as `finish`."""
        return _CUT.get(delta.finish) if finish == "length" else None

    async def _end(self) -> None:
        """What is to be done before the client knows the end."""

    @abstractmethod
    def _read(self, delta: engine_pb2.Delta) -> P:
        """What this delta makes visible; with `finish` where it is the last, or no other is wanted."""


def cut_off(delta: engine_pb2.Delta) -> bool:
    """Whether the output ended before the model ended it."""
    return delta.finish in _CUT


def copies(submit: engine_pb2.Submit, count: int) -> list[engine_pb2.Submit]:
    """The same request so many times, each with randomness of its own: the first has the request's seed."""
    submits = [submit, *(engine_pb2.Submit() for _ in range(1, count))]
    for index, own in enumerate(submits[1:], 1):
        own.CopyFrom(submit)
        if own.sampling.HasField("seed"):
            own.sampling.seed = derived(submit.sampling.seed, index)
    return submits


def derived(seed: int, index: int) -> int:
    """The seed of a request's choice `index`: that of choice 0 is the request's; of others, the 8-byte BLAKE2b of both."""
    data = b"".join(number.to_bytes(8, "little") for number in (seed, index))
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") if index else seed


def interleave(choices: Sequence[Choice[P]]) -> AsyncGenerator[tuple[int, P], None]:
    """Pieces of all choices as they come, each with its choice's index. One piece of each is asked for ahead, no more."""
    return _alone(choices[0]) if len(choices) == 1 else _interleaved(choices)


async def _alone(choice: Choice[P]) -> AsyncGenerator[tuple[int, P], None]:
    """Without a task a piece, a quarter of what a chunk would cost."""
    async with aclosing(choice.pieces()) as pieces:
        async for piece in pieces:
            yield 0, piece


async def _interleaved(choices: Sequence[Choice[P]]) -> AsyncGenerator[tuple[int, P], None]:
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(aclosing(choice.pieces())) for choice in choices]
        pending = {asyncio.ensure_future(anext(stream)): index for index, stream in enumerate(streams)}
        stack.push_async_callback(_cancel, pending)
        while pending:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                index = pending.pop(task)
                if isinstance(task.exception(), StopAsyncIteration):
                    continue
                yield index, task.result()
                pending[asyncio.ensure_future(anext(streams[index]))] = index


async def _cancel(pending: dict[asyncio.Task[P], int]) -> None:
    """Generators can be closed only once nothing waits for their next item."""
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
