"""Between the stream that brings a request's deltas and the consumer that takes them: one merged delta, never a queue."""

import asyncio
from collections.abc import Iterable

from ossia.v1.engine_pb2 import Delta
from router.deltas import merge, unseen
from router.engine import EngineError


class Mailbox:
    """Holds what arrived for one request and was not taken.

    `output` is everything it has had, `told` how many log probabilities of its prompt, both with what it was resumed from.
    """

    def __init__(self, resumed: Iterable[int], told: int = 0) -> None:
        self.output = list(resumed)
        self.told = told
        self._waiting: Delta | None = None
        self._error: EngineError | None = None
        self._arrived = asyncio.Event()

    def put(self, delta: Delta) -> bool:
        """Takes in what is new of `delta`; False, and nothing taken, where something before it is missing."""
        if delta.first_index > len(self.output) or delta.first_prompt_logprob > self.told:
            return False
        if (new := unseen(delta, len(self.output), self.told)) is not None:
            self.output.extend(new.tokens)
            self.told += len(new.prompt_logprobs)
            if self._waiting is None:
                self._waiting = new
            else:
                merge(self._waiting, new)
            self._arrived.set()
        return True

    def fail(self, error: EngineError) -> None:
        """Raises `error` to the consumer once it has taken what arrived before."""
        self._error = error
        self._arrived.set()

    async def take(self) -> Delta:
        """The next delta, everything that waits in one; raises the error that ended the request."""
        await self._arrived.wait()
        if self._waiting is None:
            assert self._error is not None, "a mailbox wakes its consumer for a delta or an error"
            raise self._error
        delta, self._waiting = self._waiting, None
        if self._error is None:
            self._arrived.clear()
        return delta
