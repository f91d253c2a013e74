"""Contents as they lie in the database: JSON or bytes, encrypted where the operator has a key. Knows no table.

A key is 32 bytes, the cipher AES-256-GCM (NIST SP 800-38D) with a random nonce and, as associated data, the place of the
content: what was moved to another row cannot be read there. Layout: one byte that is 0 for plain content or 1, then four bytes
that tell the key, the nonce (12) and the ciphertext with its tag (16).
"""

import hashlib
import json
import secrets
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic_core import PydanticSerializationError, from_json, to_json

from ossia.common.errors import UserError
from router.store.text import storable

KEY_BYTES = 32
_PLAIN, _SEALED = b"\0", b"\1"
_NONCE = 12
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class Seal:
    """The first key encrypts, all of them decrypt; without any, contents are plain. Plain ones can be read with keys, too."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        assert all(len(key) == KEY_BYTES for key in keys), f"keys have {KEY_BYTES} bytes"
        self._ciphers = {hashlib.sha256(key).digest()[:4]: AESGCM(key) for key in keys}
        self._first = next(iter(self._ciphers), None)

    def dump(self, document: object, *place: object) -> bytes:
        """A JSON-able document, for this place. Lone surrogates, which JSON can spell, survive."""
        return self.close(_written(document), *place)

    def load(self, content: bytes, *place: object) -> Any:
        """The inverse of `dump`. Raises UserError where no key fits."""
        return _read(self.open(content, *place))

    def close(self, data: bytes, *place: object) -> bytes:
        """Bytes, for this place."""
        if self._first is None:
            return _PLAIN + data
        nonce = secrets.token_bytes(_NONCE)
        return _SEALED + self._first + nonce + self._ciphers[self._first].encrypt(nonce, data, _spelled(place))

    def open(self, content: bytes, *place: object) -> bytes:
        """The inverse of `close`. Raises UserError where no key fits."""
        if content[:1] == _PLAIN:
            return content[1:]
        cipher = self._ciphers.get(content[1:5])
        if cipher is None:
            raise UserError("the database is encrypted with a key that --encryption-key-file does not have: add it there")
        try:
            return cipher.decrypt(content[5 : 5 + _NONCE], content[5 + _NONCE :], _spelled(place))
        except InvalidTag:
            raise UserError(f"the database was tampered with, or damaged, at {'/'.join(map(str, place))}") from None

    def fresh(self, content: bytes) -> bool:
        """Whether `close` would use the same key today, or none."""
        return content[1:5] == self._first if content[:1] == _SEALED else self._first is None


def _written(document: object) -> bytes:
    """JSON by pydantic's encoder, five times as fast as Python's; which writes what that does not: half a surrogate pair."""
    try:
        return to_json(document)
    except PydanticSerializationError:
        return _ENCODER.encode(document).encode("utf-8", "surrogatepass")


def _read(data: bytes) -> Any:
    try:
        return from_json(data)
    except ValueError:  # half a pair, or nested too deeply for it
        return json.loads(data.decode("utf-8", "surrogatepass"))


def _spelled(place: tuple[object, ...]) -> bytes:
    """As it is read back from the row's columns."""
    return json.dumps([storable(name) if isinstance(name, str) else name for name in place]).encode()
