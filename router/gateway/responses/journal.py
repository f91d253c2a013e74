"""What the engine said of a response, kept with its events, so that another process can go on where this one stops."""

import base64
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from ossia.common.vocabulary import CALL
from ossia.v1 import engine_pb2
from router.gateway.errors import Json
from router.gateway.generation import FINISH, Source
from router.gateway.responses.called import result_of
from router.tools.types import ToolResult

_DELTAS = "_deltas"  # of an event: pairs of a turn's index and a Delta of the protocol
_CALLED = ("mcp_call", "web_search_call", "code_interpreter_call")


class Journal:
    """The deltas of each turn: those that are stored, and those that are not yet."""

    def __init__(self, stored: Iterable[Json]) -> None:
        self._turns: dict[int, list[engine_pb2.Delta]] = {}
        self._fresh: list[Json] = []
        self.results: Mapping[str, ToolResult] = {}
        self.last = -1
        results: dict[str, ToolResult] = {}
        for event in stored:
            self._read(event, results)
        self.results = results
        self._begun = 0

    def begin(self) -> tuple[int, Sequence[engine_pb2.Delta]]:
        """The next turn's index, and what is stored of it."""
        turn, self._begun = self._begun, self._begun + 1
        return turn, self._turns.get(turn, ())

    def add(self, turn: int, delta: engine_pb2.Delta) -> None:
        """To be stored with the next event."""
        self._fresh.append({"turn": turn, "delta": base64.b64encode(delta.SerializeToString()).decode()})

    def write(self, events: list[Json]) -> list[Json]:
        """Those of the events that are not stored, the last of them with the deltas that led to it."""
        new = [event for event in events if _number(event) > self.last]
        if new:
            self.last = _number(new[-1])
            fresh, self._fresh = self._fresh, []
            new[-1] = {**new[-1], _DELTAS: fresh}
        return new

    def _read(self, event: Json, results: dict[str, ToolResult]) -> None:
        self.last = max(self.last, _number(event))
        match event:
            case {"type": "response.output_item.done", "item": {"type": kind} as item} if kind in _CALLED:
                assert isinstance(item, dict)
                results[item["id"]] = ToolResult(result_of(item), error=item["status"] == "failed")
        written = event.get(_DELTAS, [])
        assert isinstance(written, list)
        for entry in written:
            delta = engine_pb2.Delta.FromString(base64.b64decode(entry["delta"]))
            self._turns.setdefault(entry["turn"], []).append(delta)


@dataclass(frozen=True, kw_only=True)
class Journaled(Source):
    """A source that begins each turn with what is stored of it. `ends` are the tokens that end a turn."""

    journal: Journal
    ends: frozenset[int]

    async def generate(self, submit: engine_pb2.Submit, names: Mapping[str, str]) -> AsyncGenerator[engine_pb2.Delta, None]:
        turn, told = self.journal.begin()
        for delta in told:
            yield delta
        tokens = [token for delta in told for token in delta.tokens]
        if finish := self._finish(submit, tokens):
            yield engine_pb2.Delta(first_index=len(tokens), finish=finish)
            return
        submit.resume.tokens.extend(tokens)
        async with aclosing(super().generate(submit, names)) as deltas:
            async for delta in deltas:
                self.journal.add(turn, delta)
                yield delta

    def _finish(self, submit: engine_pb2.Submit, tokens: Sequence[int]) -> engine_pb2.FinishReason.ValueType | None:
        """How the turn ended, where what is stored of it was all but that."""
        sampling = submit.sampling
        if tokens and tokens[-1] in self.ends and not sampling.ignore_eos:
            return FINISH.FINISH_REASON_STOP
        if sampling.HasField("max_tokens") and len(tokens) >= sampling.max_tokens:
            return FINISH.FINISH_REASON_LENGTH
        return None


def ends(card: engine_pb2.DescribeResponse) -> frozenset[int]:
    """The tokens that end a turn, of a model like this one."""
    return frozenset((CALL, *card.stop_token_ids))


def _number(event: Json) -> int:
    number = event["sequence_number"]
    assert isinstance(number, int)
    return number
