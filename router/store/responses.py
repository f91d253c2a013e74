"""Stored responses, each with the input items of its request. Knows nothing of what they mean."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, literal, select

from router.store.database import Database
from router.store.seal import Seal
from router.store.tables import responses

Json = dict[str, object]


@dataclass(frozen=True)
class StoredResponse:
    """`items` are the input items of its own request; those of earlier ones are in the response that it follows."""

    response: Json
    items: list[Json]
    previous: str | None
    conversation: str | None


class Responses:
    """Responses by id; every one is seen by its tenant alone."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def put(
        self, tenant: str, response: Json, items: Sequence[Json], *, conversation: str | None, previous: str | None
    ) -> None:
        """Stores the response under its "id", in place of what was there."""
        id_ = str(response["id"])
        content = self._seal.dump({"response": response, "items": items}, "responses", tenant, id_)
        row = {"id": id_, "tenant": tenant, "previous": previous, "conversation": conversation, "content": content}
        replace = ("previous", "conversation", "content")
        async with self._database.begin() as connection:
            await connection.execute(self._database.insert(responses, {**row, "created": time.time()}, replace))

    async def get(self, tenant: str, id_: str) -> StoredResponse | None:
        found = select(responses).where(responses.c.id == id_, responses.c.tenant == tenant)
        async with self._database.read() as connection:
            row = (await connection.execute(found)).one_or_none()
        return self._stored(row) if row else None

    async def some(self, tenant: str, ids: Collection[str]) -> list[StoredResponse]:
        """Those of these that there are, in any order."""
        found = select(responses).where(responses.c.id.in_(ids), responses.c.tenant == tenant)
        async with self._database.read() as connection:
            return [self._stored(row) for row in await connection.execute(found)]

    async def delete(self, tenant: str, id_: str) -> bool:
        """Whether it was there. Its events go with it."""
        gone = delete(responses).where(responses.c.id == id_, responses.c.tenant == tenant)
        async with self._database.begin() as connection:
            return bool((await connection.execute(gone)).rowcount)

    async def chain(self, tenant: str, id_: str) -> list[StoredResponse]:
        """The responses that led to this one, the first one first. Where the first has a `previous`, that is gone."""
        own = responses.c.tenant == tenant
        link = select(responses.c.id, responses.c.previous, literal(0).label("back")).where(responses.c.id == id_, own)
        links = link.cte("links", recursive=True)
        before = select(responses.c.id, responses.c.previous, links.c.back + 1).where(responses.c.id == links.c.previous, own)
        links = links.union_all(before)
        found = select(responses).join(links, responses.c.id == links.c.id).order_by(links.c.back.desc())
        async with self._database.read() as connection:
            return [self._stored(row) for row in await connection.execute(found)]

    async def expire(self, before: float) -> None:
        """Deletes what was stored earlier (unix seconds)."""
        async with self._database.begin() as connection:
            await connection.execute(delete(responses).where(responses.c.created < before))

    def _stored(self, row: Row[Any]) -> StoredResponse:
        content = self._seal.load(row.content, "responses", row.tenant, row.id)
        return StoredResponse(content["response"], content["items"], row.previous, row.conversation)
