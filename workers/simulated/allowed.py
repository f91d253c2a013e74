"""What one row of a plan allows, and what to say where the script may not be followed: something that ends soon."""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ossia.common.vocabulary import CALL, END, FIRST_SPECIAL, RETURN, SIZE, encode, load
from workers.engine.checks import MAX_BIAS
from workers.engine.grammar import Mask
from workers.engine.outcome import NOTHING_ALLOWED
from workers.simulated.mix import pair

FORBIDS = -MAX_BIAS  # a bias so low forbids
ENDS = (CALL, RETURN, END)
DETOUR = 4  # one of so many tokens is none of the plain ones: what a language ends with may be one of those

_WORDS = ("text", "a")
_SIGNS = ("}", "]", '"', ",", ":")
_PLAIN = frozenset(b" abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_ASCII = frozenset(range(0x20, 0x7F))

Bits = NDArray[np.bool_]


class Allowed:
    """The ids that a grammar's mask and biases leave; with neither, all of them."""

    def __init__(self, mask: Mask | None, banned: Sequence[int]) -> None:
        self._mask = mask
        self._banned = frozenset(banned)

    def __contains__(self, token: int) -> bool:
        return token not in self._banned and (self._mask is None or bool(self._mask[token >> 5] >> np.uint32(token & 31) & 1))

    def improvise(self, index: int, before: int, chance: int) -> int:
        """A token that is allowed behind `before`, as number `index` of its message; NOTHING_ALLOWED where none is.

        Ends are taken where they can be, brackets closed, names and texts given one word; else it is chance, below 2^64.
        """
        ids = _ids()
        if (found := self._first(ENDS)) is not None:
            return found
        if (text := self._first(ids.words)) is not None:  # so this is inside of a text, where brackets close nothing
            if before not in ids.words:
                return text
            return ids.quote if ids.quote in self else self._draw(chance)
        if index < len(ids.first) and ids.first[index] in self:
            return ids.first[index]  # an object with a property; of objects within, none that may be left out
        found = self._first(ids.signs)
        return self._draw(chance) if found is None else found

    def _first(self, tokens: Sequence[int]) -> int | None:
        return next((token for token in tokens if token in self), None)

    def _draw(self, chance: int) -> int:
        bits = self._bits()
        plain, other = bits & _plain(), bits & _signs()
        kinds = (other, plain, bits) if chance % DETOUR == 0 else (plain, other, bits)
        for kind in kinds:
            found = np.flatnonzero(kind)
            if len(found):
                return int(found[pair(chance, len(found)) % len(found)])
        return NOTHING_ALLOWED

    def _bits(self) -> Bits:
        if self._mask is None:
            bits = np.arange(SIZE) < FIRST_SPECIAL
        else:
            bits = np.unpackbits(self._mask.view(np.uint8), count=SIZE, bitorder="little").astype(bool)
        bits[list(self._banned)] = False
        return bits


ANYTHING = Allowed(None, ())


class _Ids:
    def __init__(self) -> None:
        def single(texts: Sequence[str]) -> tuple[int, ...]:
            return tuple(token for text in texts for token in encode(text))

        self.quote = single(('"',))[0]
        self.first = single(("{", '"'))
        self.words = single(_WORDS)
        self.signs = single(_SIGNS)


@functools.cache
def _ids() -> _Ids:
    return _Ids()


@functools.cache
def _plain() -> Bits:
    """Tokens of letters, digits and spaces."""
    return _made_of(_PLAIN)


@functools.cache
def _signs() -> Bits:
    """Tokens of other characters that keyboards have."""
    return _made_of(_ASCII) & ~_plain()


def _made_of(alphabet: frozenset[int]) -> Bits:
    table = load().table
    return np.array([token < FIRST_SPECIAL and alphabet.issuperset(table[token]) for token in range(SIZE)])
