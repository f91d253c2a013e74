"""The headers of a harmony turn as places of an automaton over tokens. Knows neither masks nor what has been generated.

A header is cut into tokens as the vocabulary cuts it, which is how the model was shown it and how it writes it. So is the order
of its parts (github.com/openai/harmony, docs/format.md): the recipient before or behind the channel, the content type last.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ossia.common.vocabulary import CALL, CHANNEL, CONSTRAIN, END, MESSAGE, RETURN, START, encode
from workers.grammar.content import Content


@dataclass(eq=False, slots=True)
class Header:
    """One of a few tokens comes next, each with its place behind it; none where the output is over."""

    steps: dict[int, "Place"] = field(default_factory=dict)

    def add(self, tokens: Sequence[int], place: "Place") -> None:
        """These tokens lead to the place, too."""
        header = self
        for token in tokens[:-1]:
            following = header.steps.setdefault(token, Header())
            assert isinstance(following, Header), "nothing goes on behind a whole header but its body"
            header = following
        header.steps[tokens[-1]] = place


@dataclass(frozen=True, slots=True)
class Free:
    """A body of any text, up to the token `end`."""

    end: int
    reasoning: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A body of what the content allows, up to the token `end`."""

    end: int
    content: Content


Place = Header | Free | Held
OVER = Header()
ANALYSIS = Free(END, reasoning=True)
PREAMBLE = Free(END)


@dataclass(frozen=True)
class Call:
    """A function that may be called; its arguments are free where they have no content."""

    recipient: str
    arguments: Content | None

    @property
    def channels(self) -> tuple[str, ...]:
        """Where the model was shown it: functions of the caller's in the commentary, built-in tools in the analysis, too."""
        return ("commentary",) if self.recipient.startswith("functions.") else ("analysis", "commentary")


def headers(analysis: bool, calls: Iterable[Call], preamble: bool, answer: Free | Held | None) -> Header:
    """All headers, as they go on behind `<|start|>assistant`: of analysis, of each call, of a preamble and of the answer."""
    root = Header()
    types = _content_types()
    if analysis:
        root.add(_channel("analysis"), ANALYSIS)
    if preamble:
        root.add(_channel("commentary"), PREAMBLE)
    if answer is not None:
        root.add(_channel("final"), answer)
    for call in calls:
        body = Free(CALL) if call.arguments is None else Held(CALL, call.arguments)
        address = encode(f" to={call.recipient}")
        for channel in call.channels:
            if analysis or channel != "analysis":
                for kind in types:
                    root.add([*address, *_channel(channel, kind)], body)
                    root.add(_channel(channel, [*address, *kind]), body)
    return root


def again(header: Header) -> Header:
    """The way from the end of a message to the next one's header."""
    place = Header()
    place.add([START, *encode("assistant")], header)
    return place


def _channel(name: str, rest: Sequence[int] = ()) -> list[int]:
    return [CHANNEL, *encode(name), *rest, MESSAGE]


def _content_types() -> list[list[int]]:
    """What the model writes between the recipient and the arguments."""
    constrained = [CONSTRAIN, *encode("json")]
    return [[], encode(" "), encode(" json"), encode(" code"), constrained, [*encode(" "), *constrained]]


def answered(content: Content | None) -> Free | Held:
    """The body that ends the turn."""
    return Free(RETURN) if content is None else Held(RETURN, content)
