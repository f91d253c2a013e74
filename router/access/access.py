"""Who is let in and how much they may use: one object for the gateway. Knows neither paths nor bodies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus

from starlette.datastructures import Headers

from router.access.audit import Audit, who
from router.access.config import AccessConfig
from router.access.grant import Grant, Metered
from router.access.jwks import Unreachable
from router.access.keys import PREFIX, KeyRing
from router.access.limits import NONE, Limits
from router.access.meter import Meters
from router.access.oidc import BadToken, Issuer
from router.access.principal import ANYBODY, Principal
from router.gateway.errors import ApiError
from router.store.store import Store


class Access:
    """As configured, over a store that all gateways share. Open it before use, and close it before the store."""

    def __init__(self, config: AccessConfig, store: Store) -> None:
        self._config = config
        self._ring = KeyRing(store.keys)
        self._issuer = Issuer(config.oidc) if config.oidc else None
        self._meters = Meters(store.counters)
        self._flushing: asyncio.Task[None] | None = None
        self.audit = Audit(config.audit) if config.audit else None

    async def open(self) -> None:
        """Raises UserError."""
        if self.audit:
            self.audit.open()
        self._flushing = asyncio.create_task(self._meters.run())

    async def close(self) -> None:
        """Gives back what was reserved and not used."""
        if self._flushing:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
        await self._meters.flush()
        if self._issuer:
            await self._issuer.close()
        if self.audit:
            self.audit.close()

    async def authenticate(self, headers: Headers) -> Principal:
        """Whose credentials these are. Raises ApiError: 401, and 503 where the identity provider cannot be asked."""
        principal = await self._known(headers)
        if principal.highest_priority is None and self._config.highest_priority is not None:
            return replace(principal, highest_priority=self._config.highest_priority)
        return principal

    async def _known(self, headers: Headers) -> Principal:
        if self._config.open:
            return ANYBODY
        secret = _secret(headers)
        if not secret:
            raise _unauthorized("no API key: send one as 'Authorization: Bearer KEY'", "missing_api_key")
        if self._config.keys and (secret.startswith(PREFIX) or not self._issuer):
            principal = await self._ring.principal(secret)
            if principal is None:
                raise _unauthorized("this API key is unknown, revoked or expired", "invalid_api_key")
            return principal
        if self._issuer:
            return await _verified(self._issuer, secret)
        raise AssertionError("the configuration has keys, an issuer or neither")

    def grant(self, principal: Principal) -> Grant:
        """For one request of theirs."""
        return Metered(self._meters, principal.account, lambda: self.limits(principal), patient=False)

    def patient(self, principal: Principal) -> Grant:
        """For their work that nobody waits for: it waits itself."""
        return Metered(self._meters, principal.account, lambda: self.limits(principal), patient=True)

    def background(self, principal: Principal, request_id: str) -> Grant:
        """The same, with a line of its own in the audit log."""
        return _Background(self, self._meters, principal, request_id)

    async def limits(self, principal: Principal) -> Limits:
        """Those of the caller's key, and where it has none those that are configured."""
        own = await self._ring.limits(principal.key) if principal.key else NONE
        return own.over(self._config.limits)


class _Background(Metered):
    def __init__(self, access: Access, meters: Meters, principal: Principal, request_id: str) -> None:
        super().__init__(meters, principal.account, lambda: access.limits(principal), patient=True)
        self._audit = access.audit
        self._principal = principal
        self._request_id = request_id

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        if self._audit:
            whose = who(self._principal)
            self._audit.write({"request_id": self._request_id, **whose, "background": True, "tokens": self.used})


@asynccontextmanager
async def admitting(config: AccessConfig | None, store: Store) -> AsyncIterator[Access | None]:
    """The access that is configured, open until the end; None where everyone is let in. Raises UserError."""
    if config is None:
        yield None
        return
    access = Access(config, store)
    try:
        await access.open()
        yield access
    finally:
        await access.close()


def _secret(headers: Headers) -> str:
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


async def _verified(issuer: Issuer, token: str) -> Principal:
    try:
        return await issuer.principal(token)
    except BadToken as error:
        raise _unauthorized(f"this bearer token is not accepted: {error}", "invalid_token") from None
    except Unreachable:
        message = "the identity provider's keys cannot be fetched; try again"
        raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, code="unavailable", retry_after_s=1) from None


def _unauthorized(message: str, code: str) -> ApiError:
    return ApiError(HTTPStatus.UNAUTHORIZED, message, code=code)
