"""o200k_harmony, gpt-oss's vocabulary: text to tokens and back. Knows nothing of messages or channels.

It is embedded in the distribution oss-harmony (which the extras gateway and worker install, ossia alone does not), so nothing
is downloaded. openai-harmony, which owns the same import name, downloads it at first use: `load` refuses that one, at boot.
"""

import codecs
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata

import openai_harmony

from ossia.common.errors import UserError

STARTOFTEXT = 199998
ENDOFTEXT = 199999
RETURN = 200002
CONSTRAIN = 200003
CHANNEL = 200005
START = 200006
END = 200007
MESSAGE = 200008
CALL = 200012

FIRST_SPECIAL = 199998
"""Ids below are ordinary text; ids from here to `SIZE` are special, most of them reserved."""
SIZE = 201_088

UNKNOWN = "\N{REPLACEMENT CHARACTER}".encode()
"""What an id beyond the vocabulary is decoded to."""

_RUN = 1024
_KINDS = (
    r"[^\x00-@\[-`{-\x7f\u2000-\u206f\u3000-\u303f\uff00-\uff20]",  # letters, and what is no common punctuation
    r"\s",
    r"(?:[^\w\s]|_)",
    r"[\r\n/]",
)
_LONG_RUN = re.compile("|".join(f"(?<!{kind}){kind}{{{_RUN},}}" for kind in _KINDS))
"""A run of letters, spaces, punctuation or line ends. The library encodes one at once, in quadratic time and with the
interpreter's lock held: six minutes for a million letters."""
_PIECE = 1 << 14
"""Characters after which text is cut where it changes nothing: some 10 ms of the library, after which others get the lock."""
_MOST = 1 << 20
"""Characters after which it is cut wherever that is."""
_CUT = re.compile(
    r"(?<=[^\W_])(?=[\s!-&(-/:-@\[-`{-~\u2010-\u2027\u3001\u3002\u3008-\u3011\uff01-\uff0f\uff1a-\uff20])"
    r"|(?<=[A-Za-z])(?=[0-9])"
)
"""Between a letter or digit and space or punctuation that is no apostrophe, and between a letter and a digit: there a token
ends and the next begins. No run of `_LONG_RUN` goes across."""

_SHA256 = "31a726325e484f1f2fecb813cd513781b8b6dde0e299675489ababc53a39eda4"
"""Of gpt-oss's whole table: the bytes of each id in hexadecimal, a line each."""


class Vocabulary:
    """The loaded vocabulary: `encoding` renders conversations, `table` holds the bytes of every id."""

    def __init__(self) -> None:
        self.encoding = openai_harmony.load_harmony_encoding(openai_harmony.HarmonyEncodingName.HARMONY_GPT_OSS)
        decode = self.encoding._inner.decode_bytes  # the public decode replaces bytes that are no text by themselves
        self.table: tuple[bytes, ...] = tuple(decode([token]) for token in range(SIZE))

    def encode(self, text: str) -> list[int]:
        """Ordinary tokens alone, whatever the text spells; a lone surrogate becomes U+FFFD.

        Equals the library's encoding, except that runs of more than 1,024 letters, spaces or punctuation are cut every 1,024,
        and what has no better place every `_MOST`.
        """
        tokens: list[int] = []
        for piece in _pieces(well_formed(text)):
            tokens.extend(self.encoding._inner.encode(piece, []))
        return tokens

    def bytes_of(self, tokens: Iterable[int]) -> bytes:
        """The tokens' bytes, special ones spelled out."""
        table = self.table
        return b"".join([table[token] if token < SIZE else UNKNOWN for token in tokens])


@functools.cache
def load() -> Vocabulary:
    """The one vocabulary of this process; call it at boot (about 0.5 s), so that what is wrong shows there.

    Raises UserError where another distribution owns the module or any id of the vocabulary is not gpt-oss's.
    """
    owners = set(metadata.packages_distributions().get("openai_harmony", ()))
    if owners != {"oss-harmony"}:
        names = ", ".join(sorted(owners)) or "nothing known"
        raise UserError(
            f"the module openai_harmony comes from {names}: uninstall that and reinstall oss-harmony, which works offline"
        )
    vocabulary = Vocabulary()
    if hashlib.sha256("\n".join(map(bytes.hex, vocabulary.table)).encode()).hexdigest() != _SHA256:
        version = metadata.version("oss-harmony")
        raise UserError(
            f"the vocabulary of oss-harmony {version} is not gpt-oss's, or is damaged: install the pinned version again"
        )
    return vocabulary


def encode(text: str) -> list[int]:
    """Ordinary tokens alone, whatever the text spells; a lone surrogate becomes U+FFFD."""
    return load().encode(text)


def decode(tokens: Sequence[int]) -> str:
    """The text of whole tokens: special ones spelled out, bytes that are no UTF-8 and ids beyond the vocabulary as U+FFFD."""
    return load().bytes_of(tokens).decode("utf-8", "replace")


def token_bytes(token: int) -> bytes:
    """The bytes of one token, which need not be whole characters."""
    return load().bytes_of((token,))


def well_formed(text: str) -> str:
    """The text with each lone surrogate replaced by U+FFFD, so that it can be encoded."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def has_long_run(text: str) -> bool:
    """Whether the library alone would take quadratic time over this."""
    return _LONG_RUN.search(text) is not None


def _pieces(text: str) -> Iterator[str]:
    begin = 0
    while begin + _PIECE < len(text):
        cut = _CUT.search(text, begin + _PIECE, begin + _MOST)
        end = cut.start() if cut else begin + _MOST
        yield from _short_runs(text[begin:end])
        begin = end
    yield from _short_runs(text[begin:])


def _short_runs(text: str) -> Iterator[str]:
    begin = 0
    for run in _LONG_RUN.finditer(text):
        for cut in range(run.start() + _RUN, run.end(), _RUN):
            yield text[begin:cut]
            begin = cut
    yield text[begin:]


class Detokenizer:
    """Decodes a stream of tokens without ever splitting a character: all it returns, joined, is `decode` of all it was fed."""

    def __init__(self) -> None:
        self._bytes_of = load().bytes_of
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, tokens: Iterable[int]) -> str:
        """The text that is complete by now."""
        return self._decoder.decode(self._bytes_of(tokens))

    def close(self) -> str:
        """What is left, as U+FFFD; the detokenizer may be used again for other tokens."""
        text = self._decoder.decode(b"", True)
        self._decoder.reset()
        return text
