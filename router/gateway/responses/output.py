"""The items of a response as a model's turns make them, and the events that tell of it. Knows neither engines nor servers."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import pairwise, repeat

from router.gateway.chat import ChatPiece
from router.gateway.errors import Json
from router.gateway.responses.called import Called
from router.gateway.responses.offer import Offer
from router.gateway.responses.written import Message, Reasoning, Written, thought
from router.gateway.turn import Call
from router.harmony.parse import MessageStart, ReasoningDelta, TextDelta, ToolCallDelta


class Output:
    """What a response holds so far. Its events depend on what it was fed alone, ids included: fed again, it tells the same."""

    def __init__(self, response_id: str, offer: Offer) -> None:
        self.items: list[Json] = []
        self._stem = response_id.partition("_")[2]
        self._offer = offer
        self._open: Written | None = None
        self._likely: list[Json] = []  # log probabilities of text that is still withheld

    def see(self, piece: ChatPiece) -> Iterator[Json]:
        """More of a turn."""
        likelies = _by_message(piece)
        self._likely += next(likelies)
        for item in piece.seen:
            match item:
                case MessageStart(channel):
                    yield from self.close("completed")
                    self._likely += next(likelies)
                    if channel != "analysis":
                        yield from self._begin(Message(self._stem, self._place, _phase(channel)))
                case ReasoningDelta(text):
                    if not isinstance(self._open, Reasoning):
                        yield from self._begin(Reasoning(self._stem, self._place))
                    yield from self._add(text, [])
                case TextDelta(text):
                    likely, self._likely = self._likely, []
                    yield from self._add(text, likely)
                case Call(_, _, name):
                    yield from self._begin(self._call(name))
                case ToolCallDelta(_, text):
                    yield from self._add(text, [])

    def close(self, status: str) -> Iterator[Json]:
        """What is open ends: "completed", or "incomplete" where it was cut off."""
        if self._likely and isinstance(self._open, Message):  # of a stop string, whose text is nowhere
            yield from self._open.add("", self._likely)
            self._likely = []
        if self._open is not None:
            ended, self._open = self._open, None
            uncalled = isinstance(ended, Called)  # a turn ends with one call: no other is made
            yield from self._kept(ended.end("incomplete" if uncalled else status))

    def take_call(self) -> Called | None:
        """The call that the turn ended with, where the gateway makes it; what comes of it goes to `tell`."""
        if not isinstance(self._open, Called):
            return None
        call, self._open = self._open, None
        return call

    def tell(self, events: Iterable[Json]) -> Iterator[Json]:
        """Events of an item that is not the model's."""
        return self._kept(events)

    def loop(self, first: int) -> tuple[list[str], str]:
        """Of the items from `first` on the ids of calls that the client makes, and what was thought before these."""
        items = self.items[first:]
        calls = [str(item["call_id"]) for item in items if item["type"] in ("function_call", "custom_tool_call")]
        return calls, "".join(thought(item) for item in items if item["type"] == "reasoning")

    @property
    def next(self) -> tuple[str, int]:
        """What the next item's id is made of, and its index."""
        return self._stem, self._place

    @property
    def _place(self) -> int:
        return len(self.items)

    def _begin(self, item: Written) -> Iterator[Json]:
        yield from self.close("completed")
        self._open = item
        yield from item.begin()

    def _add(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        if self._open is None:
            yield from self._begin(Message(self._stem, self._place, _phase("final")))
        assert self._open is not None
        yield from self._open.add(text, logprobs)

    def _call(self, name: str) -> Written:
        place = self._place + (self._open is not None)
        call_id = f"call_{hashlib.blake2b(f'{self._stem}/{place}'.encode(), digest_size=16).hexdigest()}"
        offered = self._offer.find(name)
        assert offered is not None, "a turn shows calls of declared tools alone"
        return offered.write(self._stem, place, call_id)

    def _kept(self, events: Iterable[Json]) -> Iterator[Json]:
        for event in events:
            if event["type"] == "response.output_item.done":
                item = event["item"]
                assert isinstance(item, dict)
                self.items.append(item)
            yield event


def _by_message(piece: ChatPiece) -> Iterator[list[Json]]:
    """The log probabilities of the message that goes on, then those of each that begins."""
    for begin, end in pairwise((0, *piece.before, len(piece.logprobs))):
        yield piece.logprobs[begin:end]
    yield from repeat([])


def _phase(channel: str) -> str:
    return "commentary" if channel == "commentary" else "final_answer"
