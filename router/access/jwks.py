"""An identity provider's public keys: fetched when they are needed, kept, fetched anew when they rotate. Knows no token."""

import asyncio
import logging
import time
from typing import Any

import httpx
import jwt

from router.access.config import is_private

logger = logging.getLogger(__name__)

_TIMEOUT_S = 5.0
_FRESH_S = 3600.0  # after which keys are fetched again, so that withdrawn ones are forgotten
_PAUSE_S = 10.0  # between fetches, whatever names of keys tokens come with
_PAUSE_WITHOUT_S = 1.0  # while there are no keys at all


class Unreachable(Exception):
    """The provider's keys could not be fetched, and none are known."""


class KeySet:
    """The keys at `url`, or else where the issuer's discovery document says. Close it."""

    def __init__(self, issuer: str, url: str | None) -> None:
        self._issuer = issuer
        self._url = url
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_S)
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._tried = self._fetched = -_FRESH_S
        self._fetching = asyncio.Lock()

    async def close(self) -> None:
        await self._http.aclose()

    async def find(self, name: str | None) -> jwt.PyJWK | None:
        """The key of that `kid`; of a token that names none, the only key. Raises Unreachable."""
        if self._due(name) and not (self._fetching.locked() and self._known(name)):
            async with self._fetching:
                if self._due(name):
                    await self._fetch()
        if not self._keys:
            raise Unreachable
        return self._known(name)

    def _known(self, name: str | None) -> jwt.PyJWK | None:
        if name is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(name)

    def _due(self, name: str | None) -> bool:
        now = time.monotonic()
        lacking = now - self._fetched > _FRESH_S or (name is not None and name not in self._keys)
        return lacking and now - self._tried > (_PAUSE_S if self._keys else _PAUSE_WITHOUT_S)

    async def _fetch(self) -> None:
        try:
            found = jwt.PyJWKSet.from_dict(await self._get(self._url or await self._discovered()))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
            logger.warning("the identity provider's keys cannot be fetched: %s", error)
        else:
            self._keys = {key.key_id: key for key in found.keys if key.public_key_use != "enc"}
            self._fetched = time.monotonic()
        finally:
            self._tried = time.monotonic()

    async def _discovered(self) -> str:
        """Raises ValueError: what is found must be the issuer's own, as the specification has it, and come untouched."""
        said = await self._get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        url = str(said["jwks_uri"])
        if said["issuer"] != self._issuer or not is_private(url):
            raise ValueError("its discovery document is another issuer's, or its jwks_uri is not https")
        return url

    async def _get(self, url: str) -> Any:
        return (await self._http.get(url)).raise_for_status().json()
