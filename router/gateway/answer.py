"""An answer of one or more choices, told as chunks of a stream or gathered into one object. Knows no endpoint."""

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import ClassVar, Generic, TypeVar

from ossia.v1 import engine_pb2
from router.gateway.choice import Choice, Piece, interleave
from router.gateway.errors import Json
from router.gateway.generation import Usage, shared, total
from router.gateway.models import fingerprint
from router.gateway.schema import GenerationBody

P = TypeVar("P", bound=Piece)
Store = Callable[[Json], Awaitable[None]]


class Answer(ABC, Generic[P]):
    """The answer to one request, to be taken once: as `chunks()` or as `whole()`.

    `choices` are those of the first prompt, then of the second and so on, `body.choices` of each. `store` is given the whole
    answer before the client knows its end, either way.
    """

    prefix: ClassVar[str]  # of its id
    objects: ClassVar[tuple[str, str]]  # what a whole answer and a chunk call themselves

    def __init__(
        self,
        body: GenerationBody,
        choices: Sequence[Choice[P]],
        card: engine_pb2.DescribeResponse,
        store: Store | None = None,
    ) -> None:
        self._body = body
        self._include_usage, self._continuous = body.include_usage, body.continuous_usage
        self._choices = choices
        self._store = store
        self._wholes: dict[int, P] = {}
        self._head: Json = {
            "id": f"{self.prefix}-{secrets.token_hex(16)}",
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": fingerprint(card),
        }

    @property
    def model(self) -> str:
        """As the request calls it."""
        return self._body.model

    @property
    def usage(self) -> Usage:
        usages = [choice.usage for choice in self._choices]
        each = self._body.choices
        return total([shared(usages[first : first + each]) for first in range(0, len(usages), each)])

    async def chunks(self) -> AsyncGenerator[list[Json], None]:
        """Events of the stream, all that one delta brought at a time; the first comes with the first delta."""
        begun: set[int] = set()
        async with aclosing(interleave(self._choices)) as pieces:
            async for index, piece in pieces:
                opening = [] if begun else self._opening()
                told = [self._ended(choice) for choice in self._told(index, piece, index not in begun)]
                chunks = [self._chunk([choice]) for choice in (*opening, *told)]
                begun.add(index)
                if self._store:
                    self._gather(index, piece)
                    if self._is_whole:
                        await self._store(self._gathered_all())
                yield chunks
        if self._include_usage:
            yield [{**self._chunk([]), "usage": self.usage.body()}]

    async def whole(self) -> Json:
        """The answer as one object."""
        async with aclosing(interleave(self._choices)) as pieces:
            async for index, piece in pieces:
                self._gather(index, piece)
        whole = self._gathered_all()
        if self._store:
            await self._store(whole)
        return whole

    def _gather(self, index: int, piece: P) -> None:
        if index in self._wholes:
            self._wholes[index].add(piece)
        else:
            self._wholes[index] = piece

    @property
    def _is_whole(self) -> bool:
        return len(self._wholes) == len(self._choices) and all(whole.finish for whole in self._wholes.values())

    def _gathered_all(self) -> Json:
        choices = [self._ended(self._gathered(index, self._wholes[index])) for index in range(len(self._choices))]
        return {**self._head, "object": self.objects[0], "choices": choices, "usage": self.usage.body()}

    def _chunk(self, choices: list[Json]) -> Json:
        chunk: Json = {**self._head, "object": self.objects[1], "choices": choices}
        if not self._include_usage:
            return chunk
        return {**chunk, "usage": self.usage.body() if self._continuous else None}

    def _ended(self, choice: Json) -> Json:
        """The choice, with what its `finish_reason` does not say."""
        index = choice["index"]
        assert isinstance(index, int)
        details = self._choices[index].details if choice["finish_reason"] is not None else None
        return {**choice, "finish_details": details} if details else choice

    def _opening(self) -> list[Json]:
        """The `choices` of chunks that come before any other."""
        return []

    @abstractmethod
    def _told(self, index: int, piece: P, first: bool) -> list[Json]:
        """The `choices` of chunks that tell this piece, the first of its choice or not."""

    @abstractmethod
    def _gathered(self, index: int, whole: P) -> Json:
        """The choice that all its pieces make."""
