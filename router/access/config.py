"""The file of `--access`: who is let in, how much they may use, and what is written down. Read once, at the start."""

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, model_validator

from ossia.common import wire, yamls
from ossia.common.errors import UserError
from router.access.limits import DASHED, NONE, Limits
from router.gateway.parsing import Closed, wrong

_Text = Annotated[str, Field(min_length=1)]


def is_private(url: str) -> bool:
    """Whether nobody on the way can change what it answers."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    loopback = parts.scheme == "http" and wire.is_loopback(parts.hostname or "")
    return bool(parts.hostname) and (parts.scheme == "https" or loopback)


def _private(url: str) -> str:
    if not is_private(url):
        raise wrong("a URL that begins with https:// is expected: whoever can change its answer decides who is let in")
    return url


_Url = Annotated[_Text, AfterValidator(_private)]


class OidcConfig(Closed):
    """An identity provider (https://openid.net/specs/openid-connect-discovery-1_0.html) whose tokens are taken.

    `jwks` is where its keys are, found by the provider's discovery document if None. `tenant` is the claim that names the
    caller's tenant; if None, each user is one.
    """

    issuer: _Url
    audience: _Text
    jwks: _Url | None = None
    tenant: _Text | None = None


class AuditConfig(Closed):
    """Where the audit log goes, and whether requests and answers are written into it."""

    file: _Text
    contents: bool = False


class AccessConfig(Closed):
    """`limits` and `highest_priority` are those of each key that has none of its own, and of each user of the provider."""

    model_config = DASHED

    keys: bool = False
    oidc: OidcConfig | None = None
    open: bool = False
    limits: Limits = NONE
    highest_priority: Annotated[int, Field(gt=-(1 << 31), lt=1 << 31)] | None = None
    audit: AuditConfig | None = None

    @model_validator(mode="after")
    def _says_who(self) -> Self:
        if self.open == (self.keys or self.oidc is not None):
            raise wrong("'keys: true', 'oidc' or both are expected, or else 'open: true' to let everyone in")
        return self


def load(file: Path) -> AccessConfig:
    """Raises UserError."""
    try:
        return AccessConfig.model_validate(yamls.read(file, "--access"), by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise UserError(f"{file}: {f'{where}: ' if where else ''}{first['msg']}") from None
