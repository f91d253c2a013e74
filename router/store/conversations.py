"""Conversations and their items. Knows nothing of what items mean."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from router.store.database import Database
from router.store.page import Order, Page, page
from router.store.responses import Json
from router.store.seal import Seal
from router.store.tables import conversations, items
from router.store.text import storable


class Duplicate(Exception):
    """The conversation has an item of that id already."""


@dataclass(frozen=True)
class Conversation:
    """`created` in whole unix seconds."""

    id: str
    created: int
    metadata: Json


class Conversations:
    """Conversations by id, and items of a conversation by theirs; every one is seen by its tenant alone.

    Items are stored under their "id". What finds no conversation of the tenant returns None or False.
    """

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def create(self, tenant: str, metadata: Json, added: Sequence[Json] = ()) -> Conversation:
        """Raises Duplicate."""
        made = Conversation(f"conv_{secrets.token_hex(24)}", int(time.time()), metadata)
        row = {"id": made.id, "tenant": tenant, "created": made.created, "changed": time.time()}
        content = self._dump(tenant, made.id, metadata)
        async with self._database.begin() as connection:
            await connection.execute(insert(conversations).values(**row, content=content))
            await self._insert(connection, made.id, added)
        return made

    async def get(self, tenant: str, id_: str) -> Conversation | None:
        found = select(conversations).where(_own(tenant, id_))
        async with self._database.read() as connection:
            row = (await connection.execute(found)).one_or_none()
        return self._conversation(row) if row else None

    async def update(self, tenant: str, id_: str, metadata: Json) -> Conversation | None:
        """With this metadata in place of what it had."""
        changed = update(conversations).where(_own(tenant, id_)).values(content=self._dump(tenant, id_, metadata))
        async with self._database.begin() as connection:
            row = (await connection.execute(changed.values(changed=time.time()).returning(conversations))).one_or_none()
        return self._conversation(row) if row else None

    async def delete(self, tenant: str, id_: str) -> bool:
        """Whether it was there. Its items go with it."""
        async with self._database.begin() as connection:
            return bool((await connection.execute(delete(conversations).where(_own(tenant, id_)))).rowcount)

    async def add(self, tenant: str, id_: str, added: Sequence[Json]) -> bool:
        """Puts items at its end, all or none. Raises Duplicate."""
        async with self._database.begin() as connection:
            if not await _touch(connection, tenant, id_):
                return False
            await self._insert(connection, id_, added)
        return True

    async def merge(self, tenant: str, id_: str, added: Sequence[Json]) -> bool:
        """Puts those of the items at its end whose ids it has not yet."""
        there = select(items.c.id).where(items.c.conversation == id_)
        async with self._database.begin() as connection:
            if not await _touch(connection, tenant, id_):
                return False
            known = set(await connection.scalars(there))
            fresh: dict[str, Json] = {}
            for item in added:
                if (name := storable(str(item["id"]))) not in known:
                    fresh.setdefault(name, item)
            await self._insert(connection, id_, list(fresh.values()))
        return True

    async def items(self, tenant: str, id_: str) -> list[Json] | None:
        """All of its items, the first one first."""
        found = select(items).where(items.c.conversation == id_).order_by(items.c.place)
        async with self._database.read() as connection:
            if not (await connection.execute(select(conversations.c.id).where(_own(tenant, id_)))).first():
                return None
            return [self._item(row) for row in await connection.execute(found)]

    async def list(self, tenant: str, id_: str, after: str | None, limit: int, order: Order) -> Page[Json] | None:
        """A page of its items; None also where it has no item `after`."""
        async with self._database.read() as connection:
            if not (await connection.execute(select(conversations.c.id).where(_own(tenant, id_)))).first():
                return None
            return await page(connection, items, items.c.conversation == id_, after, limit, order, self._item)

    async def item(self, tenant: str, id_: str, item_id: str) -> Json | None:
        within = select(conversations.c.id).where(_own(tenant, id_))
        found = select(items).where(items.c.conversation.in_(within), items.c.id == item_id)
        async with self._database.read() as connection:
            row = (await connection.execute(found)).one_or_none()
        return self._item(row) if row else None

    async def remove(self, tenant: str, id_: str, item_id: str) -> bool:
        """Whether the item was there."""
        gone = delete(items).where(items.c.conversation == id_, items.c.id == item_id)
        async with self._database.begin() as connection:
            if not await _touch(connection, tenant, id_):
                return False
            return bool((await connection.execute(gone)).rowcount)

    async def expire(self, before: float) -> None:
        """Deletes those that nothing was added to since (unix seconds)."""
        async with self._database.begin() as connection:
            await connection.execute(delete(conversations).where(conversations.c.changed < before))

    async def _insert(self, connection: AsyncConnection, id_: str, added: Sequence[Json]) -> None:
        values = [
            {"conversation": id_, "id": item["id"], "content": self._seal.dump(item, "items", id_, item["id"])}
            for item in added
        ]
        if not values:
            return
        try:
            await connection.execute(insert(items), values)
        except IntegrityError as error:
            raise Duplicate(f"conversation {id_}") from error

    def _dump(self, tenant: str, id_: str, metadata: Json) -> bytes:
        return self._seal.dump(metadata, "conversations", tenant, id_)

    def _conversation(self, row: Row[Any]) -> Conversation:
        metadata = self._seal.load(row.content, "conversations", row.tenant, row.id)
        return Conversation(row.id, int(row.created), metadata)

    def _item(self, row: Row[Any]) -> Json:
        item: Json = self._seal.load(row.content, "items", row.conversation, row.id)
        return item


def _own(tenant: str, id_: str) -> Any:
    return and_(conversations.c.id == id_, conversations.c.tenant == tenant)


async def _touch(connection: AsyncConnection, tenant: str, id_: str) -> bool:
    """Whether it is the tenant's. Holds off others that change it, until the transaction ends."""
    changed = update(conversations).where(_own(tenant, id_)).values(changed=time.time())
    return bool((await connection.execute(changed)).rowcount)
