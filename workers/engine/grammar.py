"""What holds a request's output to a grammar, as the engine sees it. Implemented in `workers.grammar`, or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint32]
"""[words] of ceil(vocabulary / 32): bit i % 32 of word i // 32 allows id i. Never changed once handed out."""


class Below(NamedTuple):
    """Allows the ids below `first` and, of the others, `end`: what needs no mask, which takes 25 kB a row of a step."""

    first: int
    end: int


Allowed = Mask | Below | None
"""The ids that may come next; None where all may."""


class Grammar(Protocol):
    """The state of one request's grammar: what its output may go on with. Made in one thread, then used from others, one at a
    time.
    """

    @property
    def slow(self) -> bool:
        """`mask` takes a while here, and gives a Mask: it is computed while the step runs."""

    @property
    def stalled(self) -> bool:
        """Nothing may come next before `renew` has been called."""

    def renew(self) -> None:
        """Lets it go on where it is stalled. Takes up to seconds: not for a thread that others wait for."""

    def mask(self) -> Allowed:
        """The ids that may come next. A mask has no bit set where nothing may: a dead end, unless it is stalled."""

    def accept(self, token: int) -> None:
        """Goes on by a token that the mask allows. Raises ValueError on others, after which the state is of no use."""

    def rollback(self, count: int) -> None:
        """Takes back the last `count` accepted tokens."""

    def forced(self, limit: int) -> list[int]:
        """Up to `limit` tokens that come next for certain, each being the only one allowed: free drafts."""


@dataclass(frozen=True, eq=False)
class Later:
    """The mask behind some more tokens of a request's output, which is computed while the step runs."""

    grammar: Grammar
    ahead: tuple[int, ...] = ()

    def write(self, mask: Mask) -> None:
        """Computes it, into `mask`. Nobody else may use the grammar meanwhile."""
        for token in self.ahead:
            self.grammar.accept(token)
        allowed = self.grammar.mask()
        self.grammar.rollback(len(self.ahead))
        assert isinstance(allowed, np.ndarray), "what takes a while is a mask"
        mask[:] = allowed


def coming(grammar: Grammar, ahead: Sequence[int] = ()) -> Allowed | Later:
    """What may come next in the grammar's state, in which it is behind `ahead`, drafts that will be taken back."""
    return Later(grammar, tuple(ahead)) if grammar.slow else grammar.mask()


def allows(allowed: Allowed, token: int) -> bool:
    if isinstance(allowed, Below):
        return token < allowed.first or token == allowed.end
    return allowed is None or bool(allowed[token >> 5] >> np.uint32(token & 31) & 1)


def spelled(allowed: Allowed, vocab_size: int) -> NDArray[np.bool_]:
    """[vocab_size] whether each id may come."""
    if isinstance(allowed, np.ndarray):
        return np.unpackbits(allowed.view(np.uint8), count=vocab_size, bitorder="little").astype(bool)
    found = np.ones(vocab_size, bool)
    if allowed is not None:
        found[allowed.first :] = False
        found[allowed.end] = True
    return found
