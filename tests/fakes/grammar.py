"""A grammar made of a hash: sometimes everything may come next, sometimes one token, sometimes nothing."""

import numpy as np

from tests.fakes.runner import VOCAB, digest, spread
from workers.engine.grammar import Allowed, Below, Mask, allows, spelled

WORDS = -(-VOCAB // 32)


def mask_of(tokens: list[int]) -> Mask:
    mask = np.zeros(WORDS, np.uint32)
    for token in tokens:
        mask[token // 32] |= np.uint32(1 << token % 32)
    return mask


class FakeGrammar:
    """`seed` tells one language from another; without `ends` each of them goes on for ever. Masks of a state are one object."""

    def __init__(self, seed: int, ends: bool = True) -> None:
        self.accepted: list[int] = []
        self._seed = seed
        self._ends = ends
        self._masks: dict[tuple[int, ...], Allowed] = {}

    @property
    def slow(self) -> bool:
        """At every other place."""
        return len(self.accepted) % 2 == 1 and isinstance(FakeGrammar.mask(self), np.ndarray)

    @property
    def stalled(self) -> bool:
        return False

    def renew(self) -> None:
        raise AssertionError("it is not stalled")

    def mask(self) -> Allowed:
        state = tuple(self.accepted)
        if state not in self._masks:
            self._masks[state] = self._mask()
        return self._masks[state]

    def accept(self, token: int) -> None:
        if not allows(self.mask(), token):
            raise ValueError(f"token {token} may not come here")
        self.accepted.append(token)

    def rollback(self, count: int) -> None:
        assert count <= len(self.accepted), "more is taken back than was accepted"
        del self.accepted[len(self.accepted) - count :]

    def forced(self, limit: int) -> list[int]:
        found: list[int] = []
        while len(found) < limit and len(allowed := np.flatnonzero(spelled(self.mask(), VOCAB))) == 1:
            found.append(int(allowed[0]))
            self.accept(found[-1])
        self.rollback(len(found))
        return found

    def _mask(self) -> Allowed:
        weights = spread(digest([self._seed, *self.accepted]), 1)
        kind = int(weights[0] * 16)
        if kind < 32:
            return None if kind < 16 else Below(VOCAB - 2 * kind, 3 * kind)
        if kind < 80:
            return mask_of([int(weights.argmax())])
        if kind < 84 and self._ends:
            return mask_of([])
        return mask_of(np.flatnonzero(weights > 3).tolist())


class Stalling(FakeGrammar):
    """The same languages; it stalls where masks at some places are asked for, once at each, and does not tell so before."""

    def __init__(self, seed: int, ends: bool = True) -> None:
        super().__init__(seed, ends)
        self.renewals = 0
        self._known: set[int] = set()
        self._stalled: int | None = None

    @property
    def slow(self) -> bool:
        return isinstance(FakeGrammar.mask(self), np.ndarray)

    @property
    def stalled(self) -> bool:
        return self._stalled is not None and len(self.accepted) >= self._stalled

    def renew(self) -> None:
        assert self._stalled is not None, "it is not stalled"
        self.renewals += 1
        self._known.add(self._stalled)
        self._stalled = None

    def mask(self) -> Allowed:
        length = len(self.accepted)
        if self.slow and length % 3 == 2 and length not in self._known and self._stalled is None:
            self._stalled = length
        return mask_of([]) if self.stalled else super().mask()

    def accept(self, token: int) -> None:
        if not allows(FakeGrammar.mask(self), token):
            raise ValueError(f"token {token} may not come here")
        self.accepted.append(token)
