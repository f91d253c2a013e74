"""`ossia keys`: makes, lists and revokes API keys in the database that gateways share."""

import asyncio
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from cluster.state import Folder
from ossia.common.errors import UserError
from router.access.keys import digest, make
from router.store.config import StoreConfig, opened
from router.store.keys import StoredKey
from router.store.store import Store

T = TypeVar("T")
DAY_S = 86_400
_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")  # no colon, which tenants of identity providers' users have


def database(given: str | None, instance: str) -> StoreConfig:
    """The database of that URL, or else the one that `ossia serve` makes for an instance of this name."""
    if given is not None:
        return StoreConfig(given)
    folder = Folder(instance)
    folder.make()
    return StoreConfig(folder.database)


@dataclass(frozen=True)
class Limited:
    """What a key may: no models are all, no days are for ever; the others as a stored key has them."""

    models: Sequence[str] = ()
    days: float | None = None
    limits: Mapping[str, int | None] = field(default_factory=dict)
    highest_priority: int | None = None
    reasoning: str = "both"


def create(config: StoreConfig, tenant: str, label: str, limited: Limited) -> tuple[str, StoredKey]:
    """A new key, which is stored nowhere, and what is stored of it. Raises UserError."""
    if not _TENANT.fullmatch(tenant):
        raise UserError(f"--tenant must be up to 64 letters, digits, dots, dashes and underscores, not '{tenant}'")
    key = make()
    stored = StoredKey(
        id=f"key_{secrets.token_hex(8)}",
        digest=digest(key),
        tenant=tenant,
        name=label,
        models=limited.models or None,
        limits={limit: value for limit, value in limited.limits.items() if value is not None},
        highest_priority=limited.highest_priority,
        reasoning=limited.reasoning,
        expires=None if limited.days is None else time.time() + limited.days * DAY_S,
    )
    _run(config, lambda store: store.keys.add(stored))
    return key, stored


def listed(config: StoreConfig, tenant: str | None) -> Sequence[StoredKey]:
    """All keys, revoked ones too, or those of a tenant. Raises UserError."""
    return _run(config, lambda store: store.keys.list(tenant))


def revoke(config: StoreConfig, id_: str) -> None:
    """Raises UserError where there is no such key."""
    if not _run(config, lambda store: store.keys.revoke(id_)):
        raise UserError(f"there is no key '{id_}'; `ossia keys list` shows those that there are")


def table(keys: Sequence[StoredKey]) -> str:
    """For people."""
    rows = [("ID", "TENANT", "LABEL", "STATE", "CREATED", "MODELS", "LIMITS", "REASONING"), *(_row(key) for key in keys)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def documents(keys: Sequence[StoredKey]) -> str:
    """For programs: everything but the digests."""
    shown = [{name: value for name, value in vars(key).items() if name != "digest"} for key in keys]
    return json.dumps([{**key, "state": _state(stored)} for key, stored in zip(shown, keys, strict=True)], indent=2)


def _row(key: StoredKey) -> tuple[str, ...]:
    known = key.limits if key.highest_priority is None else {**key.limits, "highest_priority": key.highest_priority}
    limits = ", ".join(f"{limit.replace('_', '-')} {value}" for limit, value in known.items())
    models = ", ".join(key.models or ("all",))
    return key.id, key.tenant, key.name, _state(key), _day(key.created), models, limits, key.reasoning


def _state(key: StoredKey) -> str:
    if key.revoked is not None:
        return f"revoked {_day(key.revoked)}"
    if key.expires is None:
        return "valid"
    return f"{'valid until' if key.valid(time.time()) else 'expired'} {_day(key.expires)}"


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _run(config: StoreConfig, work: Callable[[Store], Awaitable[T]]) -> T:
    async def inside() -> T:
        async with opened(config, port=0) as store:
            return await work(store)

    return asyncio.run(inside())
