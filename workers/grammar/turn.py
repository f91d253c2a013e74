"""One request's output as its grammar sees it: implements `workers.engine.grammar.Grammar`."""

from dataclasses import dataclass
from typing import NamedTuple

from ossia.common import vocabulary
from ossia.common.vocabulary import END, FIRST_SPECIAL
from workers.engine.grammar import Allowed, Below
from workers.grammar import masks
from workers.grammar.content import Body
from workers.grammar.headers import OVER, Free, Header, Held, Place


@dataclass(frozen=True)
class Language:
    """The outputs that a request may have."""

    start: Place
    again: Place = OVER  # behind a message that ends with <|end|>
    closed: Place = OVER  # there, once the tokens of analysis are used up
    reasoning_tokens: int | None = None  # most tokens of analysis


class Step(NamedTuple):
    """Where the output is after a token."""

    place: Place
    reasoning: int = 0  # tokens of analysis so far
    length: int = 0  # tokens of the body so far, where it is held to a content


class Turn:
    """An output of the language, token by token. Used from one thread at a time.

    The steps of all tokens are kept, so any number can be taken back. A held body is the last of its output, so there is one.
    """

    def __init__(self, language: Language) -> None:
        self._language = language
        self._tokens: list[int] = []
        self._body: Body | None = None
        self._steps = [self._enter(language.start, 0)]

    @property
    def slow(self) -> bool:
        """Masks of a body that is held are computed, all others are at hand."""
        return isinstance(self._steps[-1].place, Held)

    @property
    def stalled(self) -> bool:
        return self.slow and self._held.stalled

    def renew(self) -> None:
        """Compiles what the body is held to anew, where the library has given up on it."""
        self._held.renew()

    def mask(self) -> Allowed:
        """The ids that may come next. None of the allowed ids is a special token that the place has no use for."""
        place, reasoning, _ = self._steps[-1]
        match place:
            case Header(steps):
                return masks.only(*steps)
            case Held(end):
                return self._held.mask(end)
            case Free(end):
                return masks.only(*self._closing()) if self._spent(place, reasoning) else Below(FIRST_SPECIAL, end)

    def accept(self, token: int) -> None:
        """Goes on by a token that the mask allows. Raises ValueError on others, and is of no use any more."""
        self._steps.append(self._after(token))
        self._tokens.append(token)

    def rollback(self, count: int) -> None:
        """Takes back the last `count` accepted tokens."""
        assert count <= len(self._tokens), "more is taken back than was accepted"
        del self._steps[len(self._steps) - count :], self._tokens[len(self._tokens) - count :]
        if isinstance(self._steps[-1].place, Held):
            self._held.rollback(self._steps[-1].length)

    def forced(self, limit: int) -> list[int]:
        """Up to `limit` tokens that come next for certain, each being the only one allowed."""
        tokens: list[int] = []
        while len(tokens) < limit and (token := self._only()) is not None:
            self.accept(token)
            tokens.append(token)
        self.rollback(len(tokens))
        return tokens

    def _after(self, token: int) -> Step:
        step = self._steps[-1]
        place, reasoning, length = step
        match place:
            case Header(steps) if token in steps:
                return self._enter(steps[token], reasoning)
            case Held(end) if token == end and self._held.ends:
                return Step(OVER, reasoning)
            case Held() if self._held.accept(token):
                return Step(place, reasoning, length + 1)
            case Free() if self._spent(place, reasoning) and token not in self._closing():
                pass
            case Free(end) if token == end:
                return Step(self._next(end, reasoning), reasoning)
            case Free(reasoning=counts) if token < FIRST_SPECIAL:
                return Step(place, reasoning + 1) if counts else step
        raise ValueError(f"token {token} cannot come behind {len(self._tokens)} tokens of output")

    def _enter(self, place: Place, reasoning: int) -> Step:
        if isinstance(place, Held):
            self._body = place.content.begin()
        return Step(place, reasoning)

    def _next(self, end: int, reasoning: int) -> Place:
        """What comes behind a message."""
        if end != END:
            return OVER
        limit = self._language.reasoning_tokens
        return self._language.again if limit is None or reasoning < limit else self._language.closed

    def _only(self) -> int | None:
        place, reasoning, _ = self._steps[-1]
        ids: tuple[int, ...] = ()
        match place:
            case Header(steps):
                ids = tuple(steps)
            case Held(end):
                return self._held.forced(end)
            case Free() if self._spent(place, reasoning):
                ids = self._closing()
        return ids[0] if len(ids) == 1 else None

    def _spent(self, place: Free, reasoning: int) -> bool:
        limit = self._language.reasoning_tokens
        return place.reasoning and limit is not None and reasoning >= limit

    def _closing(self) -> tuple[int, ...]:
        """What may come behind the last token of analysis: its end, or first the rest of a character that it broke off in."""
        table = vocabulary.load().table
        last = b"".join(table[token] for token in self._tokens[-4:] if token < FIRST_SPECIAL)
        begun = masks.unfinished(last)
        return masks.completions(begun) if begun else (END,)

    @property
    def _held(self) -> Body:
        assert self._body is not None, "a place that holds the body has made one"
        return self._body
