"""What the model says, as a function of the prompt and of what it has said: a state that each token brings to the next.

It reasons a little, calls the first function that is offered, once, and answers after the result; or answers at once. Where
the mask forbids that it does what comes next in this order, and inside a message whatever ends it soon.
"""

import functools
import re
import zlib
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ossia.common.vocabulary import CALL, CHANNEL, CONSTRAIN, END, MESSAGE, RETURN, START, encode
from workers.simulated.allowed import Allowed
from workers.simulated.conversation import REASONING_TOKENS, Conversation, read
from workers.simulated.script import Script
from workers.simulated.types import Function
from workers.splitmix import pair

QUOTED_WORDS = 24  # of what the user wrote, or a tool answered


class Lines:
    """Everything there is to say in answer to one prompt. `key` is what chance is made of."""

    def __init__(self, conversation: Conversation, key: int) -> None:
        self.conversation = conversation
        self.key = key

    @cached_property
    def analysis(self) -> Script:
        opening = _quoted("The user wrote", self.conversation.text)
        return Script(opening, len(opening) + REASONING_TOKENS[self.conversation.effort], END, pair(self.key, 1))

    @cached_property
    def answer(self) -> Script:
        if self.conversation.results:
            opening = _quoted("The tool answered", self.conversation.results)
            return Script(opening, len(opening), RETURN, self.key)
        return Script((), self.conversation.answer_tokens, RETURN, self.key)

    def call(self, function: Function) -> Script:
        words = re.findall(r"\w+", self.conversation.text)
        arguments = tuple(encode(function.arguments(max(words, key=len, default="text"))))
        return Script(arguments, len(arguments), CALL, words=False)

    def headers(self, reasoned: bool, called: bool) -> list[tuple[tuple[int, ...], Function | Script]]:
        """Each way to begin a message, the one that is wanted first, and what it begins."""
        analysis, answer = [(_header("analysis"), self.analysis)], [(_header("final"), self.answer)]
        wanted = [*answer, *self._calls] if called else [*self._calls, *answer]
        return [*wanted, *analysis] if reasoned else [*analysis, *wanted]

    @cached_property
    def _calls(self) -> list[tuple[tuple[int, ...], Function | Script]]:
        return [(_header("commentary", function.name), function) for function in self.conversation.functions]


class State(NamedTuple):
    """Where a turn is. `header` is what has come of one, None inside a body, whose next token is number `place`."""

    lines: Lines
    script: Script
    header: tuple[int, ...] | None
    place: int = 0
    before: int = -1  # the last token
    astray: bool = False  # the body has left its script
    reasoned: bool = False
    called: bool = False

    def choose(self, allowed: Allowed, position: int) -> int:
        """The token that comes next, number `position` of the output; NOTHING_ALLOWED where none may."""
        for token in self._wanted():
            if token in allowed:
                return token
        return allowed.improvise(self.place, self.before, pair(self.lines.key, position))

    def after(self, token: int) -> "State":
        """The state once this token has come, whether it was wanted or not."""
        if self.header is not None:
            return self._head((*self.header, token))
        if token in (END, CALL, RETURN):
            return self._replace(header=(), place=0, before=token, astray=False, called=self.called or token == CALL)
        astray = self.astray or token != self.script.token(self.place) and token != self.script.more(self.place)
        return self._replace(place=self.place + 1, before=token, astray=astray)

    def _wanted(self) -> Iterator[int]:
        if self.header is not None:
            begun = len(self.header)
            for header, _ in self.lines.headers(self.reasoned, self.called):
                if header[:begun] == self.header and len(header) > begun:
                    yield header[begun]
        elif self.astray:
            yield self.script.end
        else:
            yield self.script.token(self.place)
            yield self.script.more(self.place)

    def _head(self, header: tuple[int, ...]) -> "State":
        if header[-1] != MESSAGE:
            return self._replace(header=header, before=header[-1])
        known = dict(self.lines.headers(self.reasoned, self.called))
        body = known.get(header, self.lines.answer)
        script = self.lines.call(body) if isinstance(body, Function) else body
        reasoned = self.reasoned or script is self.lines.analysis
        return self._replace(header=None, script=script, place=0, before=MESSAGE, reasoned=reasoned)


def begin(prompt: NDArray[np.int32], seed: int) -> State:
    """The state behind a prompt. Of equal prompts, those with equal seeds get equal answers."""
    conversation = read(prompt)
    lines = Lines(conversation, pair(zlib.crc32(prompt.tobytes()), seed))
    if not conversation.harmony:
        return State(lines, lines.answer, header=None)
    state = State(lines, lines.answer, header=(START,) if conversation.begun else (), called=conversation.called)
    for token in conversation.begun:
        state = state.after(token)
    return state._replace(place=0, astray=False)  # what the prompt has begun to say goes on with the whole script


@functools.lru_cache(1024)
def _header(channel: str, function: str = "") -> tuple[int, ...]:
    """A header from `<|start|>` to `<|message|>`, cut into tokens as models write it."""
    role = (START, *encode("assistant"), CHANNEL, *encode(channel))
    if function:
        return (*role, *encode(f" to=functions.{function}"), *encode(" "), CONSTRAIN, *encode("json"), MESSAGE)
    return (*role, MESSAGE)


def _quoted(label: str, text: str) -> tuple[int, ...]:
    """A sentence that begins what is said."""
    return tuple(encode(f'{label}: "{" ".join(text.split()[:QUOTED_WORDS])}".'))
