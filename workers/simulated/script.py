"""What is said in one message, token by token and without end: where its end is forbidden, the text goes on."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

from ossia.common.vocabulary import encode
from workers.splitmix import GAMMA, WORD, mix

SENTENCE = 8  # words
_WORDS = (
    "time people way day man thing woman life child world school state family student group country problem hand part place "
    "case week company system program question work number night point home water room mother area money story fact month lot "
    "right study book eye job word business issue side kind head house service friend father power hour game line end member"
)


@dataclass(frozen=True, slots=True)
class Script:
    """`opening`, then words chosen by `key` up to `length` tokens in all, then `end`. Without words, blank lines follow."""

    opening: tuple[int, ...]
    length: int
    end: int
    key: int = 0
    words: bool = True

    def token(self, index: int) -> int:
        """What comes at this index of the message's body."""
        return self.end if index >= self.length else self.more(index)

    def more(self, index: int) -> int:
        """The same where the message may not end."""
        if index < len(self.opening):
            return self.opening[index]
        return self._word(index - len(self.opening)) if self.words else _vocabulary().blank

    def _word(self, index: int) -> int:
        """A token of sentences of `SENTENCE` words, each of which is one token, as is the full stop."""
        known, place = _vocabulary(), index % (SENTENCE + 1)
        if place == SENTENCE:
            return known.stop
        if place == 0:
            return known.following if index or self.opening else known.first
        return known.words[int(mix(self.key ^ (index * GAMMA & WORD))) % len(known.words)]


def tokens_of(words: int) -> int:
    """Tokens that so many words take, with the full stops of whole sentences."""
    return words + words // SENTENCE


class _Vocabulary(NamedTuple):
    words: tuple[int, ...]
    stop: int  # a full stop
    first: int  # word of a text
    following: int  # first word of a sentence behind another
    blank: int  # white space that changes no JSON


@functools.cache
def _vocabulary() -> _Vocabulary:
    words = tuple(token for word in _WORDS.split() for token in encode(f" {word}"))
    return _Vocabulary(words, *(token for text in (".", "The", " The", "\n") for token in encode(text)))
