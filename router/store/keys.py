"""API keys: whose they are and what they may, found by the digest of the key. Knows no key itself."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Row, insert, select, update

from router.store.database import Database
from router.store.tables import keys


@dataclass(frozen=True)
class StoredKey:
    """`digest` is the key's, hexadecimal. Times in unix seconds. `models` of None are all; `limits` and what
    follows as access has them.
    """

    id: str
    digest: str
    tenant: str
    name: str
    models: Sequence[str] | None = None
    limits: dict[str, int] = field(default_factory=dict)
    highest_priority: int | None = None
    reasoning: str = "both"
    created: float = field(default_factory=time.time)
    expires: float | None = None
    revoked: float | None = None

    def valid(self, now: float) -> bool:
        """Whether it opens anything at that time."""
        return self.revoked is None and (self.expires is None or now < self.expires)


class Keys:
    """Keys are never deleted: the audit log and what is stored name them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: StoredKey) -> None:
        row = {**vars(key), "models": None if key.models is None else list(key.models)}
        async with self._database.begin() as connection:
            await connection.execute(insert(keys).values(row))

    async def find(self, digest: str) -> StoredKey | None:
        """The key of that digest, also one that is revoked or expired."""
        return await self._one(keys.c.digest == digest)

    async def get(self, id_: str) -> StoredKey | None:
        return await self._one(keys.c.id == id_)

    async def list(self, tenant: str | None = None) -> Sequence[StoredKey]:
        """The oldest first; those of one tenant, or all."""
        asked = select(keys).order_by(keys.c.created, keys.c.id)
        async with self._database.read() as connection:
            found = await connection.execute(asked if tenant is None else asked.where(keys.c.tenant == tenant))
            return [_key(row) for row in found]

    async def revoke(self, id_: str) -> bool:
        """False: there is no such key. One that is revoked already stays so since then."""
        async with self._database.begin() as connection:
            there = (await connection.execute(select(keys.c.id).where(keys.c.id == id_))).first()
            mine = update(keys).where(keys.c.id == id_, keys.c.revoked.is_(None))
            await connection.execute(mine.values(revoked=time.time()))
        return there is not None

    async def _one(self, asked: ColumnElement[bool]) -> StoredKey | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(keys).where(asked))).one_or_none()
        return _key(row) if row else None


def _key(row: Row[Any]) -> StoredKey:
    return StoredKey(**row._mapping)
