"""Reads from a prompt's tokens what the script needs to know: who spoke last, what is offered, how much is asked for."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ossia.common.vocabulary import CALL, END, FIRST_SPECIAL, MESSAGE, RETURN, START, decode, encode
from workers.simulated.script import SENTENCE, tokens_of
from workers.simulated.types import Function, functions

ANSWER_TOKENS = 64  # where no length is asked for
REASONING_TOKENS = {"low": 12, "medium": 32, "high": 96}
TAIL_TOKENS = 256  # at the end of a raw prompt or of what the user wrote, where a length may be asked for

_LENGTH = re.compile(r"\b(\d{1,9})[ -](token|word|sentence)s?\b", re.IGNORECASE)
_EFFORT = re.compile(r"^Reasoning: (low|medium|high)$", re.MULTILINE)
_OPEN = (END, CALL, RETURN)  # a message that has one of these is over


@dataclass(frozen=True)
class Conversation:
    """A harmony prompt, or (`harmony` False) any other text."""

    harmony: bool
    text: str  # what the user wrote, or the end of a raw prompt
    begun: tuple[int, ...] = ()  # the turn's tokens that the prompt ends with, behind `<|start|>`
    functions: tuple[Function, ...] = ()
    results: str = ""  # what the tools answered since the user wrote
    called: bool = False  # a function has been, since the user wrote
    effort: str = "medium"

    @property
    def answer_tokens(self) -> int:
        """Of the answer: what the user asked for, in tokens, words or sentences."""
        match = _LENGTH.search(self.text)
        if match is None:
            return ANSWER_TOKENS
        count, unit = int(match[1]), match[2].lower()
        return {"token": count, "word": tokens_of(count), "sentence": count * (SENTENCE + 1)}[unit]


@dataclass
class _Found:
    """What the messages say, the last of them looked at first."""

    results: list[str] = field(default_factory=list)
    called: bool = False
    user: Sequence[int] | None = None
    functions: tuple[Function, ...] = ()
    effort: str = "medium"

    def add(self, header: Sequence[int], body: Sequence[int]) -> None:
        role = decode(header)
        if role == "system":
            self.effort = _effort(tuple(body))
        elif role == "developer":
            self.functions = _functions(tuple(body))
        elif self.user is None:
            self._since(role, body)

    def _since(self, role: str, body: Sequence[int]) -> None:
        """A message since the user wrote, or what the user wrote."""
        if role.startswith("user"):
            self.user = body
        elif not role.startswith("assistant"):
            self.results.insert(0, decode(body))
            self.called = True
        elif " to=" in role:
            self.called = True


def read(prompt: NDArray[np.int32]) -> Conversation:
    """The conversation that these tokens are, whatever they are."""
    starts = np.flatnonzero(prompt == START).tolist()
    messages = [prompt[begin + 1 : end].tolist() for begin, end in pairwise([*starts, len(prompt)])]
    if not messages or not _answers(messages[-1]):
        return Conversation(harmony=False, text=_text(prompt.tolist()))
    begun = () if any(end in messages[-1] for end in _OPEN) else tuple(messages.pop())
    found = _Found()
    for message in reversed(messages):
        if MESSAGE in message:
            place = message.index(MESSAGE)
            found.add(message[:place], [token for token in message[place + 1 :] if token not in _OPEN])
    return Conversation(
        harmony=True,
        text=_text(found.user or ()),
        begun=begun,
        functions=found.functions,
        results="\n".join(found.results),
        called=found.called,
        effort=found.effort,
    )


def _answers(message: Sequence[int]) -> bool:
    """Whether the model goes on behind this message: it is the assistant's, or over."""
    assistant = encode("assistant")
    return message[: len(assistant)] == assistant or any(end in message for end in _OPEN)


def _text(tokens: Sequence[int]) -> str:
    return decode([token for token in tokens[-TAIL_TOKENS:] if token < FIRST_SPECIAL])


@functools.lru_cache(64)
def _effort(body: tuple[int, ...]) -> str:
    match = _EFFORT.search(decode(body))
    return match[1] if match else "medium"


@functools.lru_cache(64)
def _functions(body: tuple[int, ...]) -> tuple[Function, ...]:
    return functions(decode(body))
