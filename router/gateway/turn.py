"""An assistant's turn: from tokens to what the user sees, ending at a stop string. Knows harmony, not HTTP."""

import secrets
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from router.gateway.stop import StopStrings
from router.harmony.header import Target
from router.harmony.parse import Event, MessageStart, Parser, ReasoningDelta, TextDelta, ToolCallDelta, ToolCallStart


@dataclass(frozen=True)
class Call:
    """The model began to call a tool; its arguments follow as ToolCallDelta of the same index."""

    index: int
    id: str
    name: str


Seen = MessageStart | ReasoningDelta | TextDelta | Call | ToolCallDelta


class Turn:
    """What comes out, joined, does not depend on how tokens are grouped.

    Stop strings are looked for in the visible answer alone, in one message at a time. `tools` are the names that were declared,
    as the parser has them: a call of anything else is a message, for nobody could take it. `silent` are ids that have no text.
    Unless calls may be `parallel`, the turn is over where the second would begin.
    """

    def __init__(
        self, stop: Sequence[str], tools: Set[str] = frozenset(), silent: Set[int] = frozenset(), parallel: bool = True
    ) -> None:
        self._parser = Parser()
        self._stop = StopStrings(stop)
        self._one_by_one = bool(stop) or not parallel  # or else tokens after the one that ends the turn would be counted
        self._tools = tools
        self._silent = silent
        self._parallel = parallel
        self._calls: dict[int, int] = {}  # the parser's index of a call -> ours
        self._undeclared = 0
        self._said = False  # something of the answer
        self.tokens = 0
        self.full = False  # another call would have begun

    @property
    def stopped(self) -> bool:
        """The turn is over, whatever the model goes on to write: a stop string came, or it is `full`."""
        return self._stop.matched or self.full

    @property
    def stop_string(self) -> str | None:
        """That which ended the turn."""
        return self._stop.found

    @property
    def called(self) -> bool:
        return bool(self._calls)

    @property
    def answered(self) -> bool:
        """Whether there is a call, or text of an answer or of a preamble."""
        return self._said or self.called

    @property
    def answering(self) -> bool:
        """Whether ordinary tokens that come next are part of the visible text."""
        target = self._parser.target
        return target is Target.TEXT or (target is Target.CALL and self._parser.calls - 1 not in self._calls)

    @property
    def reasoning_tokens(self) -> int:
        return self._parser.reasoning_tokens

    @property
    def repairs(self) -> int:
        """Places of malformed harmony mended so far, and calls of what is no tool."""
        return self._parser.repairs + self._undeclared

    def feed(self, tokens: Sequence[int]) -> list[Seen]:
        """What these tokens made visible, neighbours of a kind joined."""
        seen: list[Seen] = []
        for group in ([token] for token in tokens) if self._one_by_one else (tokens,):
            self.tokens += len(group)
            seen += self._see(self._parser.feed([token for token in group if token not in self._silent]))
            if self.stopped:
                break
        return join(seen)

    def close(self) -> list[Seen]:
        """What was still withheld, at the end of the tokens."""
        return [] if self.stopped else join([*self._see(self._parser.close()), *self._flush()])

    def _see(self, events: Iterable[Event]) -> Iterable[Seen]:
        for event in events:
            if self.stopped:
                return
            match event:
                case TextDelta(text):
                    yield from self._text(text)
                case MessageStart():
                    yield from self._flush()
                    yield event
                case ReasoningDelta():
                    yield event
                case ToolCallStart():
                    yield from self._flush()
                    yield from self._call(event)
                case ToolCallDelta(index, arguments) if index in self._calls:
                    yield ToolCallDelta(self._calls[index], arguments)
                case ToolCallDelta(_, arguments):
                    yield from self._text(arguments)

    def _call(self, begun: ToolCallStart) -> Iterable[Seen]:
        if begun.name not in self._tools:
            self._undeclared += 1
            yield MessageStart("final" if begun.channel == "final" else "commentary")
        elif self._calls and not self._parallel:
            self.full = True
        else:
            self._calls[begun.index] = len(self._calls)
            yield Call(self._calls[begun.index], f"call_{secrets.token_hex(16)}", begun.name)

    def _text(self, text: str) -> Iterable[Seen]:
        self._said = True
        if certain := self._stop.feed(text):
            yield TextDelta(certain)

    def _flush(self) -> Iterable[Seen]:
        if withheld := self._stop.flush():
            yield TextDelta(withheld)


def join(seen: Iterable[Seen]) -> list[Seen]:
    """The same, neighbours of a kind in one."""
    joined: list[Seen] = []
    for item in seen:
        match (joined[-1] if joined else None), item:
            case TextDelta(before), TextDelta(after):
                joined[-1] = TextDelta(before + after)
            case ReasoningDelta(before), ReasoningDelta(after):
                joined[-1] = ReasoningDelta(before + after)
            case ToolCallDelta(index, before), ToolCallDelta(same, after) if index == same:
                joined[-1] = ToolCallDelta(index, before + after)
            case _:
                joined.append(item)
    return joined
