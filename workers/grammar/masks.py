"""The vocabulary as grammars use it: masks over its ids, and llguidance's view of it."""

import codecs
import functools

import numpy as np
from llguidance import LLTokenizer
from numpy.typing import NDArray

from ossia.common import vocabulary
from ossia.common.vocabulary import FIRST_SPECIAL, RETURN, SIZE
from workers.engine.grammar import Mask

WORDS = -(-SIZE // 32)
END_OF_CONTENT = RETURN
"""What llguidance takes for the end of a text."""

_PATTERN = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
"""How o200k cuts text before it merges bytes (github.com/openai/tiktoken, tiktoken_ext/openai_public.py)."""


@functools.cache
def tokenizer() -> LLTokenizer:
    """The vocabulary for llguidance, which cuts what a grammar forces into tokens as the model would."""
    table = vocabulary.load().table
    made: LLTokenizer = LLTokenizer.from_tiktoken(  # type: ignore[attr-defined]  # left out of the library's stubs
        encoder={table[token]: token for token in range(FIRST_SPECIAL)},
        special_tokens={table[token].decode(): token for token in range(FIRST_SPECIAL, SIZE)},
        pattern=_PATTERN,
        eos_token=END_OF_CONTENT,
        n_vocab=SIZE,
    )
    return made


def load() -> None:
    """What every grammar needs, loaded at boot (about 2 s); raises UserError where the vocabulary is not gpt-oss's."""
    tokenizer()
    _continuations()


@functools.lru_cache(1024)
def only(*ids: int) -> Mask:
    """Allows these ids."""
    return frozen(_add(np.zeros(WORDS, np.uint32), ids))


def ended(mask: NDArray[np.uint32], ids: tuple[int, ...]) -> Mask:
    """The mask, changed in place so that it allows text as before, and of special tokens these."""
    mask[_EDGE] &= (1 << FIRST_SPECIAL % 32) - 1
    mask[_EDGE + 1 :] = 0
    return frozen(_add(mask, ids))


def frozen(mask: NDArray[np.uint32]) -> Mask:
    mask.setflags(write=False)
    return mask


def _add(mask: NDArray[np.uint32], ids: tuple[int, ...]) -> NDArray[np.uint32]:
    for token in ids:
        mask[token >> 5] |= np.uint32(1 << (token & 31))
    return mask


_EDGE = FIRST_SPECIAL // 32  # the word that holds the last ordinary ids


def unfinished(data: bytes) -> bytes:
    """The bytes at the end that begin a character and do not end it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    return decoder.getstate()[0]


@functools.lru_cache(1024)
def completions(begun: bytes) -> tuple[int, ...]:
    """The tokens that are part of the character begun, and of nothing else."""
    return tuple(token for token, data in _continuations() if _is_one_character(begun + data))


@functools.cache
def _continuations() -> tuple[tuple[int, bytes], ...]:
    """Tokens of at most three bytes, none of which begins a character."""
    inner = bytes(range(0x80, 0xC0))
    table = vocabulary.load().table
    return tuple((token, data) for token in range(FIRST_SPECIAL) if len(data := table[token]) <= 3 and not data.strip(inner))


def _is_one_character(data: bytes) -> bool:
    """Whether this is one character, whole or begun."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(data)
    except UnicodeDecodeError:
        return False
    return len(text) + bool(decoder.getstate()[0]) == 1
