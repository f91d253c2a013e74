"""Parses what gpt-oss generates: tokens in, events out. Never raises, whatever the tokens are; knows nothing of HTTP.

What oss-harmony's StreamableParser reads this reads alike, but for differences that docs/develop.md lists. Repairs: a header
that lacks `<|message|>` ends where its words stop making sense; a message that lacks its end is ended by the next header; text
without any header is the answer; a call is known by its recipient, on any channel; a message in another role is dropped, and
so is what follows `<|return|>` or `<|call|>` up to the next header; special tokens never become text.
"""

import codecs
import enum
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ossia.common import vocabulary
from ossia.common.vocabulary import FIRST_SPECIAL
from router.harmony import header
from router.harmony.header import Channel, Header, Target

_MAX_HEADER = 64
"""Tokens after which what claims to be a header is taken for text: two recipients of 64 characters fit."""


@dataclass(slots=True)
class MessageStart:
    """A message begins that is no call; its text follows, and may be none. On commentary it is a preamble to a call.

    `content_type` is what the header says that the text is, such as `json`; it says nothing mostly, and nothing reliable.
    """

    channel: Channel
    content_type: str | None = None


@dataclass(slots=True)
class ReasoningDelta:
    """More chain of thought."""

    text: str


@dataclass(slots=True)
class TextDelta:
    """More of the answer, or of a preamble to a tool call."""

    text: str


@dataclass(slots=True)
class ToolCallStart:
    """A call begins: `index` counts from 0, `name` lacks the `functions.` that the model writes before a function's.

    `channel` and `content_type` are as the model wrote them: built-in tools are called on analysis, as `code`.
    """

    index: int
    name: str
    channel: Channel
    content_type: str | None


@dataclass(slots=True)
class ToolCallDelta:
    """More of a call's arguments, as the model writes them: not necessarily JSON, and possibly none at all."""

    index: int
    arguments: str


Event = MessageStart | ReasoningDelta | TextDelta | ToolCallStart | ToolCallDelta


class State(enum.Enum):
    """What the next token is part of."""

    HEADER = "header"
    BODY = "body"
    DONE = "done"


class Parser:
    """Parses one turn, beginning right after the prompt's `<|start|>assistant`.

    repairs: how many headers and tokens were not valid harmony.
    calls: how many tool calls have begun.
    reasoning_tokens: tokens of bodies on the analysis channel; headers and the tokens that end messages do not count.
    ended: what ended the turn, None while it goes on or where it was cut off. `<|endoftext|>` counts as return.
    """

    def __init__(self) -> None:
        self._table = vocabulary.load().table
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._events: list[Event] = []
        self._run: list[bytes] = []
        self._target = Target.TEXT
        self._event: Callable[[str], Event] | None = None
        self.state = State.HEADER
        self._header = header.START + "assistant"
        self._opening = len(self._header)
        self._marked = False
        self._length = 0
        self.repairs = 0
        self.calls = 0
        self.reasoning_tokens = 0
        self.ended: Literal["call", "return"] | None = None

    @property
    def target(self) -> Target | None:
        """Where the body that is being generated goes; None between bodies."""
        return self._target if self.state is State.BODY else None

    def feed(self, tokens: Sequence[int]) -> list[Event]:
        """The events that these tokens, any number of them, bring about; their grouping changes only how text is cut."""
        table, body, run = self._table, State.BODY, self._run
        for token in tokens:
            if not 0 <= token < FIRST_SPECIAL:
                self._special(token)
            elif self.state is body:
                run.append(table[token])
            elif self.state is State.HEADER:
                self._extend(table[token].decode("latin-1"))
            else:
                self.repairs += 1
        if run:
            self._flush()
        return self._take()

    def close(self) -> list[Event]:
        """The events that the end of the stream brings about."""
        if self.state is State.HEADER:
            self._end_header(cut=True)
        elif self.state is State.BODY:
            self._end_body()
        self.state = State.DONE
        return self._take()

    def _take(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _special(self, token: int) -> None:
        match token:
            case vocabulary.MESSAGE if self.state is State.HEADER:
                read = header.complete(self._header)
                self.repairs += not read.canonical
                self._begin_body(read)
            case vocabulary.CHANNEL | vocabulary.CONSTRAIN if self.state is State.HEADER:
                self._marked = True
                self._extend(header.CHANNEL if token == vocabulary.CHANNEL else header.CONSTRAIN)
            case vocabulary.START:
                self._end_message(whole=not self._header)
                self._expect(header.START, marked=True)
            case vocabulary.CHANNEL:
                self._end_message(whole=False)
                self._expect(header.START + "assistant" + header.CHANNEL, marked=True)
            case vocabulary.END | vocabulary.RETURN | vocabulary.CALL | vocabulary.ENDOFTEXT if self.state is not State.DONE:
                self._end_message(whole=self.state is State.BODY)
                self._end_turn(token)
            case _:
                self.repairs += 1

    def _end_turn(self, token: int) -> None:
        """Goes on to the next header after `<|end|>`; after the others there should be none."""
        self._expect("", marked=False)
        if token != vocabulary.END:
            self.state = State.DONE
            self.ended = "call" if token == vocabulary.CALL else "return"

    def _expect(self, text: str, marked: bool) -> None:
        """Begins a header that reads `text` so far; `marked` when a special token says that it is one."""
        self.state = State.HEADER
        self.ended = None
        self._header = text
        self._opening = len(text)
        self._marked = marked
        self._length = 0

    def _extend(self, text: str) -> None:
        """Takes a token into the header, and gives the header up where it cannot be one."""
        self._header += text
        self._length += 1
        if self._length > _MAX_HEADER or not (self._marked or header.may_begin(self._header[self._opening :])):
            self.repairs += 1
            self._begin_body(self._broken())

    def _broken(self) -> Header:
        text = self._header[self._opening :]
        if self._marked or "to=" in text:
            return header.truncated(self._header)
        return Header(Target.TEXT, body=text)

    def _begin_body(self, read: Header) -> None:
        self.state = State.BODY
        self._target = read.target
        match read.target:
            case Target.REASONING | Target.TEXT:
                self._events.append(MessageStart(read.channel, read.content_type))
                self._event = ReasoningDelta if read.target is Target.REASONING else TextDelta
            case Target.CALL:
                self._events.append(ToolCallStart(self.calls, read.name, read.channel, read.content_type))
                self._event = functools.partial(ToolCallDelta, self.calls)
                self.calls += 1
            case Target.FOREIGN:
                self._event = None
        self._emit(self._decoder.decode(read.body.encode("latin-1")))

    def _end_message(self, whole: bool) -> None:
        """Ends whatever is open; `whole` says that this is the place for it."""
        self.repairs += not whole
        if self.state is State.BODY:
            self._end_body()
        elif self.state is State.HEADER:
            self._end_header(cut=False)

    def _end_header(self, cut: bool) -> None:
        """Keeps what a header without a body holds: text, or a call without arguments; not half words of one cut off."""
        read = self._broken()
        text = read.body.strip()
        if cut and self._marked and header.may_begin(text):
            return
        if text or (read.target is Target.CALL and not cut):
            self._begin_body(read)
            self._end_body()

    def _end_body(self) -> None:
        self._flush()
        self._emit(self._decoder.decode(b"", True))
        self._decoder.reset()

    def _flush(self) -> None:
        run = self._run
        if run:
            if self._target is Target.REASONING:
                self.reasoning_tokens += len(run)
            self._emit(self._decoder.decode(b"".join(run)))
            run.clear()

    def _emit(self, text: str) -> None:
        if text and self._event:
            self._events.append(self._event(text))
