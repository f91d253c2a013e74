"""What holds a request's output to a grammar, as the engine sees it. Implemented in `workers.grammar`, or not at all."""

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
    """The state of one request's grammar: what its output may go on with. Made in one thread, then used from another."""

    def mask(self) -> Allowed:
        """The ids that may come next. A mask has no bit set where nothing may: a dead end."""

    def accept(self, token: int) -> None:
        """Goes on by a token that the mask allows. Raises ValueError on others, after which the state is of no use."""

    def rollback(self, count: int) -> None:
        """Takes back the last `count` accepted tokens."""

    def forced(self, limit: int) -> list[int]:
        """Up to `limit` tokens that come next for certain, each being the only one allowed: free drafts."""


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
