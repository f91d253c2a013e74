"""Chain of thought that clients keep for us without reading or changing it: `encrypted_content`. Knows no request.

AES-256-GCM (NIST SP 800-38D) under a key that all gateways of a database share, with a random nonce in front and the tenant as
associated data: what one tenant was given, no other can use.
"""

import base64
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from router.store.secrets import Secrets

_NONCE = 12


class Sealed:
    """`open` it before it seals; it is open from then on."""

    def __init__(self, store: Secrets) -> None:
        self._store = store
        self._cipher: AESGCM | None = None

    async def open(self) -> "Sealed":
        if self._cipher is None:
            self._cipher = AESGCM(await self._store.get("encrypted_content"))
        return self

    def seal(self, tenant: str, text: str) -> str:
        assert self._cipher, "it is opened first"
        nonce = secrets.token_bytes(_NONCE)
        return base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, text.encode(), tenant.encode())).decode()

    def unseal(self, tenant: str, sealed: str) -> str:
        """The text. Raises ValueError for what was not sealed here, or not for this tenant."""
        assert self._cipher, "it is opened first"
        data = base64.urlsafe_b64decode(sealed.encode())
        try:
            return self._cipher.decrypt(data[:_NONCE], data[_NONCE:], tenant.encode()).decode()
        except InvalidTag:
            raise ValueError("it is no content of this tenant's") from None
