"""What one row of a plan allows, and what to say where the script may not be followed: something that ends soon."""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ossia.common.vocabulary import CALL, END, FIRST_SPECIAL, RETURN, SIZE, encode, load
from workers.engine import grammar
from workers.engine.plan import NOTHING_ALLOWED
from workers.splitmix import pair

ENDS = (CALL, RETURN, END)

_WORDS = ("text", "name", "value", "part", "a")
_LETTERS = ("a", "q")  # which begin no two names of one place
_JOINTS = ("@", ".", "-", "/", ":", " ")
_SIGNS = ("}", "]", '"', ",", ":")
_LETTERS_AND_SPACE = b" abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

Bits = NDArray[np.bool_]


class Allowed:
    """The ids that a grammar's mask and biases leave; with neither, all of them."""

    def __init__(self, mask: grammar.Allowed, banned: Sequence[int]) -> None:
        self._mask = mask
        self._banned = frozenset(banned)

    def __contains__(self, token: int) -> bool:
        return token not in self._banned and grammar.allows(self._mask, token)

    def improvise(self, index: int, before: int, chance: int) -> int:
        """A token that is allowed behind `before`, as number `index` of its message; NOTHING_ALLOWED where none is.

        Ends are taken where they can be, brackets closed, names and texts given one word; else it is chance, below 2^64.
        """
        ids = _ids()
        if (found := self._first(ENDS)) is not None:
            return found
        if all(letter in self for letter in ids.letters):  # so this is inside of a text, where brackets close nothing
            return self._text(index, before, chance)
        if index < len(ids.first) and ids.first[index] in self:
            return ids.first[index]  # an object with a property; of objects within, none that may be left out
        found = self._first(ids.signs)
        return self._draw(chance) if found is None else found

    def _text(self, index: int, before: int, chance: int) -> int:
        """One word, and where the text may not end with it, more words and what stands between words."""
        ids = _ids()
        if before not in ids.words:
            words = [word for word in ids.words if word in self]
            return words[index % len(words)]  # names of one object are to differ
        joints = [joint for joint in ids.joints if joint in self]
        if ids.quote in self:
            return ids.quote
        return joints[chance % len(joints)] if joints and _detour(chance) == 3 else self._draw(chance)

    def _first(self, tokens: Sequence[int]) -> int | None:
        return next((token for token in tokens if token in self), None)

    def _draw(self, chance: int) -> int:
        """A token of letters as a rule, now and then one of digits or signs: many a text ends with one of those, or never."""
        bits, (letters, digits, signs) = self._bits(), _kinds()
        for kind in ((letters, letters, digits, signs)[_detour(chance)], letters, digits, signs, True):
            found = np.flatnonzero(bits & kind)
            if len(found):
                return int(found[pair(chance, len(found)) % len(found)])
        return NOTHING_ALLOWED

    def _bits(self) -> Bits:
        bits = np.arange(SIZE) < FIRST_SPECIAL if self._mask is None else grammar.spelled(self._mask, SIZE)
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
        self.letters = single(_LETTERS)
        self.joints = single(_JOINTS)
        self.signs = single(_SIGNS)


@functools.cache
def _ids() -> _Ids:
    return _Ids()


def _detour(chance: int) -> int:
    """0 to 3, each as likely."""
    return chance >> 32 & 3


@functools.cache
def _kinds() -> tuple[Bits, Bits, Bits]:
    """Tokens of letters and spaces, of digits, and of all that keyboards have but for these."""
    letters, digits, all = (
        _made_of(frozenset(alphabet)) for alphabet in (_LETTERS_AND_SPACE, b"0123456789", range(0x20, 0x7F))
    )
    return letters, digits, all & ~letters & ~digits


def _made_of(alphabet: frozenset[int]) -> Bits:
    table = load().table
    return np.array([token < FIRST_SPECIAL and alphabet.issuperset(table[token]) for token in range(SIZE)])
