"""Bearer tokens of an identity provider: JWTs (RFC 7519) whose signature, issuer, audience and time are checked."""

from collections.abc import Mapping
from typing import Any

import jwt

from router.access.config import OidcConfig
from router.access.jwks import KeySet
from router.access.principal import Principal

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")  # none has a secret
_LEEWAY_S = 30
_LONGEST = 256  # characters of a tenant or user


class BadToken(Exception):
    """Says what is wrong with it."""


class Issuer:
    """Reads the tokens of one provider. Close it."""

    def __init__(self, config: OidcConfig) -> None:
        self._config = config
        self._keys = KeySet(config.issuer, config.jwks)

    async def close(self) -> None:
        await self._keys.close()

    async def principal(self, token: str) -> Principal:
        """Who the token says its bearer is. Raises BadToken, and jwks.Unreachable."""
        try:
            key = await self._keys.find(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                raise BadToken("none of the provider's keys signed it")
            claims = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                audience=self._config.audience,
                issuer=self._config.issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise BadToken(str(error)) from None
        user = _claim(claims, "sub")
        return Principal(_claim(claims, self._config.tenant) if self._config.tenant else f"user:{user}", user=user)


def _claim(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST or not value.isprintable():
        raise BadToken(f"its claim '{name}' is not a text of 1 to {_LONGEST} printable characters")
    return value
