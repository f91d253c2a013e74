import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import openai_harmony as library
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.common import vocabulary
from ossia.common.vocabulary import FIRST_SPECIAL, SIZE
from router.harmony.header import Channel, Target
from router.harmony.parse import MessageStart, Parser, ReasoningDelta, State, TextDelta, ToolCallDelta, ToolCallStart
from tests.router.harmony.streams import RELAXED, SPECIAL, Turn, parse, tokens

NAME = re.compile(r"[A-Za-z0-9_.:/-]+")


def library_messages(ids: Sequence[int]) -> list[library.Message] | None:
    """What oss-harmony's parser makes of a turn; None where it raises."""
    parser = library.StreamableParser(vocabulary.load().encoding, library.Role.ASSISTANT)
    try:
        for token in ids:
            parser.process(token)
        parser.process_eos()
    except (library.HarmonyError, OverflowError):
        return None
    messages: list[library.Message] = parser.messages
    return messages


def gathered(messages: Sequence[library.Message]) -> Turn:
    """The assistant's part of it."""
    turn = Turn()
    for message in messages:
        text = "".join(part.text for part in message.content)
        if message.author.role is not library.Role.ASSISTANT:
            continue
        if message.recipient is not None:
            turn.calls.append((message.recipient.removeprefix("functions."), text))
        elif message.channel == "analysis":
            turn.reasoning += text
        else:
            turn.text += text
    return turn


@dataclass
class Part:
    """One message of a stream that the library can read, as tokens and as it reads them."""

    first: bool
    head: list[int]
    body: list[int]
    read: library.Message

    @property
    def header(self) -> str:
        return vocabulary.decode(self.head)

    @property
    def recipient(self) -> str:
        return self.read.recipient or ""

    @property
    def bare(self) -> str:
        """A recipient without `to=`."""
        return "" if f"to={self.recipient}" in self.header else self.recipient


def parts(ids: Sequence[int], messages: Sequence[library.Message]) -> list[Part]:
    """As the library cuts a stream: a header goes on to `<|message|>`, a body to a token that ends it."""
    result: list[Part] = []
    rest = list(ids)
    for read in messages:
        middle = rest.index(vocabulary.MESSAGE)
        ends = (place for place, token in enumerate(rest) if place > middle and token in ENDS)
        end = next(ends, len(rest))
        begin = 0 if not result else 1  # behind `<|start|>`
        result.append(Part(not result, rest[begin:middle], rest[middle + 1 : end], read))
        rest = rest[end + 1 :]
    return result


ENDS = (vocabulary.END, vocabulary.RETURN, vocabulary.CALL)
CHANNELS = ("analysis", "commentary", "final")
DIFFERENCES: dict[str, Callable[[Part], object]] = {
    "special tokens are neither text nor part of a name, a role or a channel": lambda part: (
        any(token >= FIRST_SPECIAL for token in part.body)
        or any(token >= FIRST_SPECIAL for token in part.head if token not in (vocabulary.CHANNEL, vocabulary.CONSTRAIN))
        or part.head.count(vocabulary.CHANNEL) > 1
        or "<|" in f"{part.bare}{part.read.author.name or ''}"
    ),
    "text in place of the first header is the answer, at once": lambda part: (
        part.first and re.match(r"\s*(?!to=|assistant\b|analysis\b|commentary\b|final\b|json\b|code\b|<\||$)", part.header)
    ),
    "a header whose first word is no role is the assistant's": lambda part: (
        part.read.author.name is not None and part.recipient != "assistant"
    ),
    "a word that says the channel or the type of the content is no tool": lambda part: part.bare in (*CHANNELS, "json", "code"),
    "nor are `assistant`, `user` and `all`": lambda part: part.recipient in ("assistant", "user", "all"),
    "a word without `to=` is no tool on the analysis channel": lambda part: (
        part.read.channel == "analysis" and not part.bare.startswith("functions.") and part.bare
    ),
    "`to=` and the names of channels count wherever they stand in a word": lambda part: (
        "to=" in f"{part.read.channel or ''} {part.recipient} {part.read.content_type or ''}"
        or any(name in word and name != word for name in CHANNELS for word in (part.read.channel or "", part.bare))
    ),
    "a character that no name has ends it": lambda part: part.read.recipient is not None and not NAME.fullmatch(part.recipient),
    "`functions.` stands before a name once": lambda part: part.recipient.startswith("functions.functions."),
    "a name has at most 256 characters, a header at most 64 tokens": lambda part: (
        len(part.recipient) > 256 or len(part.head) > 64
    ),
}
"""Where ours reads otherwise what the library can read, and why. `docs/develop.md` has the same list."""


names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,20}", fullmatch=True).map("functions.".__add__) | st.sampled_from(
    ["browser.search", "python", "container.exec"]
)
contents = st.text(max_size=30) | st.sampled_from(['{"a": "🙂"}', "<|end|>", "to=functions.f", "final", "日本語テキスト", ""])


@st.composite
def headers(draw: st.DrawFn) -> list[int]:
    """A valid header from the role on, with its recipient before or after the channel."""
    recipient = draw(st.none() | names)
    channel = draw(st.sampled_from(["analysis", "commentary", "final"] if recipient is None else ["analysis", "commentary"]))
    if recipient is None:
        return tokens(f"<|channel|>{channel}<|message|>")
    kind = draw(st.sampled_from(["", " <|constrain|>json", "<|constrain|>json", " json", " code"]))
    before = draw(st.booleans())
    spelled = f" to={recipient}<|channel|>{channel}{kind}" if before else f"<|channel|>{channel} to={recipient}{kind}"
    return tokens(spelled + "<|message|>")


@st.composite
def streams(draw: st.DrawFn) -> list[int]:
    """A valid turn of one to four messages, as it follows `<|start|>assistant`."""
    result: list[int] = []
    for index in range(draw(st.integers(1, 4))):
        if index:
            result += tokens(draw(st.sampled_from(["<|end|>", "<|call|>"])) + "<|start|>assistant")
        result += draw(headers()) + vocabulary.encode(draw(contents))
    return result + tokens(draw(st.sampled_from(["<|end|>", "<|call|>", "<|return|>"])))


ids = (
    st.sampled_from(list(SPECIAL.values()))
    | st.sampled_from(tokens("assistant analysis commentary final to=functions.f json code\n{}"))
    | st.integers(0, FIRST_SPECIAL - 1)
    | st.integers(FIRST_SPECIAL, SIZE + 1000)
    | st.sampled_from([-1, 2**32 - 1])
)


@st.composite
def mutations(draw: st.DrawFn) -> list[int]:
    """A valid turn with tokens dropped, doubled, replaced and put in, then cut."""
    stream = draw(streams())
    for _ in range(draw(st.integers(0, 5))):
        place = draw(st.integers(0, len(stream)))
        end = place + draw(st.integers(0, 3))
        stream[place:end] = draw(st.lists(ids, max_size=3) | st.just(stream[place:end] * 2))
    return stream[: draw(st.integers(0, len(stream)))] if draw(st.booleans()) else stream


@st.composite
def headings(draw: st.DrawFn) -> list[int]:
    """Messages whose headers are words in any order."""
    words = st.sampled_from(
        [
            "assistant",
            "user",
            "tool",
            "functions.f",
            "get_weather",
            "to=f",
            "to=functions.g",
            "json",
            "code",
            "analysis",
            " ",
            "é",
        ]
    )
    channel = st.sampled_from(["", *(f"<|channel|>{name}" for name in (*CHANNELS, "other"))])
    kind = st.sampled_from(["", "<|constrain|>json", " <|constrain|>json"])
    result: list[int] = []
    for index in range(draw(st.integers(1, 3))):
        begin = "<|start|>" + draw(st.sampled_from(["assistant", "assistant", "user", "tool", "x"])) if index else ""
        before = (
            " ".join(draw(st.lists(words, max_size=2))) if index else draw(st.sampled_from(["", " to=f", "assistant", "final"]))
        )
        after = " ".join(draw(st.lists(words, max_size=2)))
        header = f"{begin} {before}{draw(channel)} {after}{draw(kind)}<|message|>"
        result += tokens(header) + vocabulary.encode(draw(contents)) + tokens(draw(st.sampled_from(["<|end|>", "<|call|>"])))
    return result


@RELAXED
@given(streams(), st.lists(st.integers(0, 200)))
def test_equals_the_library_on_valid_streams(stream: list[int], cuts: list[int]) -> None:
    turn, parser = parse(stream, cuts)
    messages = library_messages(stream)
    assert messages is not None
    assert turn == gathered(messages)
    assert parser.repairs == 0


ANSWER = "<|channel|>final<|message|>Hi<|end|>"


@pytest.mark.parametrize(
    ("place", "spelled"),
    [
        (0, "<|channel|>final<|message|>a<|channel|>b<|end|>"),
        (0, "<|channel|>analysis<|channel|>final<|message|>Hi<|return|>"),
        (0, "<|start|>assistant<|channel|>final<|message|>Hi<|return|>"),
        (1, "Hello<|message|>there<|end|>"),
        (2, f"{ANSWER}<|start|>f to=functions.g<|channel|>commentary<|message|>1<|call|>"),
        (2, f"{ANSWER}<|start|> to=functions.f<|channel|>commentary<|message|>1<|call|>"),
        (3, "<|channel|>final json<|message|>{}<|return|>"),
        (3, "final<|message|>Hi<|return|>"),
        (4, "<|channel|>commentary to=user<|message|>Hi<|end|>"),
        (5, "<|channel|>analysis hm<|message|>a<|end|>"),
        (6, "<|channel|>analysisanalysis<|message|>a<|end|>"),
        (6, "<|channel|>commentaryto=functions.f<|message|>{}<|call|>"),
        (7, "<|channel|>commentary to=functions.f,<|message|>{}<|call|>"),
        (7, "<|channel|>commentary to= functions.f<|message|>{}<|call|>"),
        (8, "<|channel|>commentary to=functions.functions.f<|message|>{}<|call|>"),
        (9, f"<|channel|>commentary to={'a' * 257}<|message|>1<|call|>"),
        (9, f"<|channel|>commentary to={'é' * 65}<|message|>1<|call|>"),
    ],
)
def test_each_difference_is_one(place: int, spelled: str) -> None:
    ids = tokens(spelled)
    messages = library_messages(ids)
    assert messages is not None
    assert list(DIFFERENCES)[place] in [name for part in parts(ids, messages) for name in differs(part)]
    assert parse(ids)[0] != gathered(messages)


def differs(part: Part) -> list[str]:
    return [name for name, applies in DIFFERENCES.items() if applies(part)]


@RELAXED
@given(mutations() | headings())
def test_equals_the_library_wherever_that_one_succeeds(stream: list[int]) -> None:
    messages = library_messages(stream)
    if messages is not None and not any(map(differs, parts(stream, messages))):
        assert parse(stream)[0] == gathered(messages)


@RELAXED
@given(mutations() | st.lists(ids))
def test_every_prefix_of_every_mutation_is_valid(stream: list[int]) -> None:
    parser, turn = Parser(), Turn()
    for token in stream:
        before = Turn(turn.reasoning, turn.text, list(turn.calls))
        turn.add(parser.feed([token]))
        assert (parser.state is State.BODY) == (parser.target is not None)
        assert len(turn.calls) == parser.calls >= len(before.calls)
    turn.add(parser.close())
    assert all(NAME.fullmatch(name) for name, _ in turn.calls)
    for text in (turn.reasoning, turn.text, *(arguments for _, arguments in turn.calls)):
        text.encode("utf-8")
    assert parser.reasoning_tokens <= len(stream)


@RELAXED
@given(mutations() | st.lists(ids), st.lists(st.integers(0, 200)))
def test_how_tokens_are_grouped_does_not_matter(stream: list[int], cuts: list[int]) -> None:
    whole, one = parse(stream)
    parts, other = parse(stream, cuts)
    assert parts == whole
    assert (one.repairs, one.reasoning_tokens, one.ended) == (other.repairs, other.reasoning_tokens, other.ended)


@RELAXED
@given(st.text(min_size=1).filter(lambda text: "to=" not in text))
def test_text_without_a_header_is_the_answer(text: str) -> None:
    turn, _ = parse(vocabulary.encode(f"Well, {text}"))
    assert turn == Turn(text=f"Well, {text}")


CALL = [("f", '{"a":1}')]


@pytest.mark.parametrize(
    ("spelled", "turn"),
    [
        # headers that both libraries refuse or misread
        ('<|channel|>commentary to=functions.f to=functions.f<|message|>{"a":1}<|call|>', Turn(calls=CALL)),
        ('<|channel|>commentary to=functions.f a b c d <|constrain|>json<|message|>{"a":1}<|call|>', Turn(calls=CALL)),
        ("<|channel|>final <|constrain|>response<|message|>Hi<|return|>", Turn(text="Hi")),
        ("<|channel|>analysis<|channel|>final<|message|>Hi<|return|>", Turn(text="Hi")),
        ('<|channel|>commentary to=f<|channel|>commentary<|message|>{"a":1}<|call|>', Turn(calls=CALL)),
        ('<|channel|>commentary to=functions.f<|reserved_200013|><|message|>{"a":1}<|call|>', Turn(calls=CALL)),
        # calls are known by their recipient
        ('<|channel|>analysis to=functions.f<|message|>{"a":1}<|call|>', Turn(calls=CALL)),
        ('<|channel|>commentary to=f <|constrain|>json<|message|>{"a":1}<|end|>', Turn(calls=CALL)),
        ('<|channel|>commentary functions.f<|message|>{"a":1}<|call|>', Turn(calls=CALL)),
        ('<|channel|>commentary f<|message|>{"a":1}<|call|>', Turn(calls=CALL)),
        ('<|channel|>commentary f <|constrain|>json<|message|>{"a":1}<|call|>', Turn(calls=CALL)),
        ('<|channel|>commentary f json<|message|>{"a":1}<|call|>', Turn(calls=CALL)),
        ("<|channel|>analysis f<|message|>Hm<|end|>", Turn("Hm")),
        ("<|channel|>comment=functions.f<|message|>Hi<|end|>", Turn(text="Hi")),
        ("<|channel|>commentary to=functions.user<|message|>q<|call|>", Turn(calls=[("user", "q")])),
        ('<|channel|>commentary to=functions.functions.f<|message|>{"a":1}<|call|>', Turn(calls=CALL)),
        (' to=functions.f<|message|>{"a":1}<|call|>', Turn(calls=CALL)),
        ("<|channel|>analysis to=browser.search code<|message|>q<|call|>", Turn(calls=[("browser.search", "q")])),
        ("<|channel|>commentary to=user<|message|>Hi<|end|>", Turn(text="Hi")),
        ("<|channel|>commentary to=*?<|message|>Hi<|end|>", Turn(text="Hi")),
        # `<|message|>` is missing
        ("<|channel|>final Hello there<|return|>", Turn(text="Hello there")),
        ("<|channel|>analysisWe think<|end|><|start|>assistant<|channel|>final<|message|>Hi", Turn("We think", "Hi")),
        ('<|channel|>commentary to=functions.f {"a":1}<|call|>', Turn(calls=CALL)),
        ('<|channel|>commentary to=functions.f <|constrain|>json{"a":1}<|call|>', Turn(calls=CALL)),
        (' to=functions.f {"a":1}<|call|>', Turn(calls=CALL)),
        ("<|channel|>commentary to=functions.f<|call|>", Turn(calls=[("f", "")])),
        ("<|channel|>final " + "word " * 100, Turn(text="word " * 100)),
        # `<|start|>` or an end is missing
        ("<|channel|>analysis<|message|>a<|end|><|channel|>final<|message|>b", Turn("a", "b")),
        ("<|channel|>analysis<|message|>a<|channel|>final<|message|>b", Turn("a", "b")),
        ("<|channel|>analysis<|message|>a<|start|>assistant<|channel|>final<|message|>b", Turn("a", "b")),
        ("<|channel|>analysis<|message|>a<|end|>assistant<|channel|>final<|message|>b", Turn("a", "b")),
        ("<|channel|>analysis<|message|>a<|end|>b", Turn("a", "b")),
        ("<|start|>assistant<|channel|>final<|message|>b", Turn(text="b")),
        ("final<|message|>b<|return|>", Turn(text="b")),
        ("analysis<|message|>a<|end|>", Turn("a")),
        # what may be a header turns out to be text
        ("to be or not", Turn(text="to be or not")),
        ("final", Turn(text="final")),
        (" analysis of it", Turn(text=" analysis of it")),
        # special tokens inside a body
        ("<|channel|>final<|message|>a<|message|>b<|constrain|>c<|reserved_200013|>d", Turn(text="abcd")),
        ("<|channel|>final<|message|>a<|endoftext|>b", Turn(text="a")),
        # after the end
        ("<|channel|>final<|message|>a<|return|>b<|end|>c", Turn(text="a")),
        ("<|channel|>final<|message|>a<|return|><|start|>assistant<|channel|>final<|message|>b", Turn(text="ab")),
        # other roles
        ("<|channel|>final<|message|>a<|end|><|start|>user<|message|>b<|end|>", Turn(text="a")),
        ("<|end|><|start|>functions.f to=assistant<|channel|>commentary<|message|>b<|end|>", Turn()),
        ("<|end|><|start|>functions.f<|channel|>commentary to=assistant<|message|>b<|end|>", Turn()),
        # cut off
        ("", Turn()),
        ("<|channel|>fin", Turn()),
        ("<|channel|>commentary to=functions.get_wea", Turn()),
        (" to=functions.get_wea", Turn()),
        ('<|channel|>commentary to=functions.f {"a"', Turn(calls=[("f", '{"a"')])),
        # preambles
        ('<|channel|>commentary<|message|>Wait.<|end|><|start|>assistant to=f<|channel|>commentary<|message|>{"a":1}<|call|>',
         Turn(text="Wait.", calls=CALL)),
    ],
)  # fmt: skip
def test_repairs(spelled: str, turn: Turn) -> None:
    stream = tokens(spelled)
    assert parse(stream)[0] == turn
    assert parse(stream, range(len(stream)))[0] == turn


def test_events_of_a_turn() -> None:
    parser = Parser()
    assert parser.feed(tokens("<|channel|>analysis<|message|>Think")) == [
        MessageStart("analysis"),
        ReasoningDelta("Think"),
    ]
    assert parser.target is Target.REASONING
    calling = tokens('<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a":1}')
    assert parser.feed(calling) == [ToolCallStart(0, "f", "commentary", "json"), ToolCallDelta(0, '{"a":1}')]
    assert parser.feed([vocabulary.CALL]) == []
    assert (parser.ended, parser.calls, parser.repairs, parser.state) == ("call", 1, 0, State.DONE)
    assert parser.close() == []


@pytest.mark.parametrize(
    ("spelled", "channel", "content_type"),
    [
        ("<|channel|>analysis to=python code", "analysis", "code"),
        (" to=python<|channel|>commentary <|constrain|>json", "commentary", "json"),
        ("<|channel|>commentary to=python<|constrain|> xml", "commentary", "xml"),
        ("<|channel|>commentary to=python", "commentary", None),
    ],
)
def test_what_a_call_is_written_as(spelled: str, channel: Channel, content_type: str | None) -> None:
    assert Parser().feed(tokens(f"{spelled}<|message|>")) == [ToolCallStart(0, "python", channel, content_type)]


def test_a_preamble_and_an_answer_are_two_messages() -> None:
    begin = "<|end|><|start|>assistant<|channel|>"
    final = f"{begin}final <|constrain|>json<|message|>Hi"
    parser = Parser()
    events = parser.feed(tokens(f"<|channel|>commentary<|message|>Wait.{begin}analysis<|message|>{final}"))
    assert events == [
        MessageStart("commentary"),
        TextDelta("Wait."),
        MessageStart("analysis"),
        MessageStart("final", "json"),
        TextDelta("Hi"),
    ]


def test_text_without_a_header_is_not_held_back() -> None:
    assert Parser().feed(vocabulary.encode("Hello")) == [MessageStart("final"), TextDelta("Hello")]


def test_a_character_is_never_split() -> None:
    parser = Parser()
    parser.feed(tokens("<|channel|>final<|message|>"))
    first, *rest = vocabulary.encode("🜁")
    assert rest
    assert parser.feed([first]) == []
    assert parser.feed(rest) == [TextDelta("🜁")]


def test_a_character_that_is_cut_off_is_replaced() -> None:
    parser = Parser()
    parser.feed([*tokens("<|channel|>final<|message|>"), vocabulary.encode("🜁")[0]])
    assert parser.close() == [TextDelta("\ufffd")]


@pytest.mark.parametrize(
    ("spelled", "ended"),
    [
        ("<|channel|>final<|message|>a<|return|>", "return"),
        ("<|channel|>final<|message|>a<|endoftext|>", "return"),
        ("<|channel|>commentary to=f<|message|>{}<|call|>", "call"),
        ("<|channel|>final<|message|>a<|end|>", None),
        ("<|channel|>final<|message|>a", None),
        ("<|channel|>final<|message|>a<|return|><|start|>", None),
    ],
)
def test_ended(spelled: str, ended: str | None) -> None:
    assert parse(tokens(spelled))[1].ended == ended


def test_reasoning_tokens_are_those_of_analysis_bodies() -> None:
    thought = "A thought that takes several tokens."
    _, parser = parse(tokens(f"<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant<|channel|>final<|message|>Hi"))
    assert parser.reasoning_tokens == len(vocabulary.encode(thought))


@pytest.mark.parametrize(
    ("spelled", "repairs"),
    [
        ("<|channel|>final<|message|>a<|return|>", 0),
        ("Hello", 1),
        ("<|channel|>final<|message|>a<|end|><|channel|>final<|message|>b", 1),
        ("<|channel|>final<|message|>a<|channel|>final<|message|>b", 1),
        ("<|channel|>final Hello<|return|>", 1),
        ("<|channel|>final<|message|>a<|message|>b", 1),
    ],
)
def test_repairs_are_counted(spelled: str, repairs: int) -> None:
    assert parse(tokens(spelled))[1].repairs == repairs
