"""Harmony spelled as text, for tests: `tokens("<|channel|>final<|message|>Hi<|return|>")`."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings

from ossia.common import vocabulary
from router.harmony.parse import Event, Parser, ReasoningDelta, TextDelta, ToolCallDelta, ToolCallStart

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For hosts that do other things as well."""

SPECIAL = {
    vocabulary.token_bytes(token).decode(): token
    for token in (
        vocabulary.STARTOFTEXT,
        vocabulary.ENDOFTEXT,
        vocabulary.RETURN,
        vocabulary.CONSTRAIN,
        vocabulary.CHANNEL,
        vocabulary.START,
        vocabulary.END,
        vocabulary.MESSAGE,
        vocabulary.CALL,
        200013,  # reserved
    )
}


def tokens(spelled: str) -> list[int]:
    """Tokens of text in which special tokens are spelled out."""
    result: list[int] = []
    for piece in re.split(r"(<\|[a-z0-9_]+\|>)", spelled):
        if piece in SPECIAL:
            result.append(SPECIAL[piece])
        elif piece:
            result.extend(vocabulary.encode(piece))
    return result


@dataclass
class Turn:
    """A turn's events put together."""

    reasoning: str = ""
    text: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case ReasoningDelta(text):
                    self.reasoning += text
                case TextDelta(text):
                    self.text += text
                case ToolCallStart(index, name):
                    assert index == len(self.calls)
                    self.calls.append((name, ""))
                case ToolCallDelta(index, arguments):
                    assert index == len(self.calls) - 1
                    name, before = self.calls[index]
                    self.calls[index] = (name, before + arguments)


def parse(ids: Sequence[int], cuts: Iterable[int] = ()) -> tuple[Turn, Parser]:
    """Parses a whole stream, fed in pieces that end at `cuts`."""
    parser, turn, begin = Parser(), Turn(), 0
    for cut in [*sorted(cuts), len(ids)]:
        turn.add(parser.feed(ids[begin:cut]))
        begin = max(begin, cut)
    turn.add(parser.close())
    return turn, parser
