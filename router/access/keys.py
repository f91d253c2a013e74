"""API keys: made once and shown once, known afterwards by their digest alone."""

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import cast

from router.access.limits import NONE, Limits
from router.access.principal import Principal, ShownReasoning
from router.store.keys import Keys, StoredKey

PREFIX = "sk-ossia-"
FRESH_S = 5.0  # that a key is trusted without asking the database: so long a revoked one may still open
_MOST = 4096  # keys remembered, wrong ones among them


def make() -> str:
    """A new key, of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """What is stored. A fast hash is enough: nobody tries out 256 random bits."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class KeyRing:
    """Finds keys by what clients send and by their ids, and remembers them for a while."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._known: OrderedDict[str, tuple[StoredKey | None, float]] = OrderedDict()  # by digest and by id

    async def principal(self, key: str) -> Principal | None:
        """Whose it is; None: no such key, or one that is revoked or expired."""
        stored = await self._find(digest(key), self._keys.find)
        if stored is None or not stored.valid(time.time()):
            return None
        return Principal(
            stored.tenant,
            stored.id,
            None if stored.models is None else frozenset(stored.models),
            highest_priority=stored.highest_priority,
            reasoning=cast(ShownReasoning, stored.reasoning),
        )

    async def limits(self, id_: str) -> Limits:
        """Those of its own, also where it is revoked: what it began goes on."""
        stored = await self._find(id_, self._keys.get)
        return Limits(**stored.limits) if stored else NONE

    async def _find(self, name: str, load: Callable[[str], Awaitable[StoredKey | None]]) -> StoredKey | None:
        stored, until = self._known.get(name, (None, 0.0))
        if time.monotonic() < until:
            return stored
        stored = await load(name)
        self._known[name] = stored, time.monotonic() + FRESH_S
        self._known.move_to_end(name)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return stored
