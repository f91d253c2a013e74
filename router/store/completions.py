"""Chat completions that were to be stored, each with the messages it answered. Knows nothing of what they mean.

Their metadata is what they are searched by, so it is not encrypted.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from router.store.database import Database
from router.store.page import Order, Page, page
from router.store.responses import Json
from router.store.seal import Seal
from router.store.tables import completions, labels
from router.store.text import storable


@dataclass(frozen=True)
class StoredCompletion:
    """`completion` has its "metadata"; `messages` are those of its request."""

    completion: Json
    messages: list[Json]


class Completions:
    """Chat completions by id; every one is seen by its tenant alone."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def put(self, tenant: str, completion: Json, messages: Sequence[Json], metadata: Mapping[str, str]) -> None:
        """Stores the completion under its "id"; it has a "model", too."""
        id_ = str(completion["id"])
        content = self._dump(tenant, id_, {**completion, "metadata": dict(metadata)}, messages)
        values = {"id": id_, "tenant": tenant, "model": completion["model"], "created": time.time(), "content": content}
        async with self._database.begin() as connection:
            made = await connection.execute(insert(completions).values(**values).returning(completions.c.place))
            await _label(connection, made.scalar_one(), metadata)

    async def get(self, tenant: str, id_: str) -> StoredCompletion | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(completions).where(_own(tenant, id_)))).one_or_none()
        return self._stored(row) if row else None

    async def update(self, tenant: str, id_: str, metadata: Mapping[str, str]) -> Json | None:
        """The completion with this metadata in place of what it had; None where there is none."""
        async with self._database.begin() as connection:
            row = (await connection.execute(select(completions).where(_own(tenant, id_)).with_for_update())).one_or_none()
            if row is None:
                return None
            stored = self._stored(row)
            changed = {**stored.completion, "metadata": dict(metadata)}
            content = self._dump(tenant, id_, changed, stored.messages)
            await connection.execute(update(completions).where(completions.c.place == row.place).values(content=content))
            await connection.execute(delete(labels).where(labels.c.completion == row.place))
            await _label(connection, row.place, metadata)
        return changed

    async def list(
        self, tenant: str, model: str | None, metadata: Mapping[str, str], after: str | None, limit: int, order: Order
    ) -> Page[Json] | None:
        """Those of the model, if one is named, that have all of this metadata. None: `after` is the "id" of none of them."""
        own = and_(completions.c.tenant == tenant, *(_labelled(key, value) for key, value in metadata.items()))
        if model is not None:
            own = and_(own, completions.c.model == model)
        async with self._database.read() as connection:
            return await page(connection, completions, own, after, limit, order, lambda row: self._stored(row).completion)

    async def delete(self, tenant: str, id_: str) -> bool:
        """Whether it was there."""
        async with self._database.begin() as connection:
            return bool((await connection.execute(delete(completions).where(_own(tenant, id_)))).rowcount)

    async def expire(self, before: float) -> None:
        """Deletes what was stored earlier (unix seconds)."""
        async with self._database.begin() as connection:
            await connection.execute(delete(completions).where(completions.c.created < before))

    def _dump(self, tenant: str, id_: str, completion: Json, messages: Sequence[Json]) -> bytes:
        return self._seal.dump({"completion": completion, "messages": messages}, "completions", tenant, id_)

    def _stored(self, row: Row[Any]) -> StoredCompletion:
        content = self._seal.load(row.content, "completions", row.tenant, row.id)
        return StoredCompletion(content["completion"], content["messages"])


def _own(tenant: str, id_: str) -> ColumnElement[bool]:
    return and_(completions.c.id == id_, completions.c.tenant == tenant)


def _labelled(key: str, value: str) -> ColumnElement[bool]:
    return exists().where(labels.c.completion == completions.c.place, labels.c.key == key, labels.c.value == value)


async def _label(connection: AsyncConnection, place: int, metadata: Mapping[str, str]) -> None:
    if metadata:
        stored = {storable(key): value for key, value in metadata.items()}
        await connection.execute(insert(labels), [{"completion": place, "key": key, "value": stored[key]} for key in stored])
