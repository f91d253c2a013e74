"""Batches, and the result of each of their lines. Knows nothing of what they ask for."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, select, update

from router.store.database import Database
from router.store.page import Order, Page, page
from router.store.responses import Json
from router.store.seal import Seal
from router.store.tables import batches, results

_READ = 64  # results at a time


class Batches:
    """Batches by id; every one is seen by its tenant alone. Results are of whoever has the batch."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def put(self, tenant: str, batch: Json) -> None:
        """Stores a new batch under its "id"."""
        id_ = str(batch["id"])
        row = {"id": id_, "tenant": tenant, "created": time.time(), "content": self._dump(tenant, batch)}
        async with self._database.begin() as connection:
            await connection.execute(insert(batches).values(row))

    async def get(self, tenant: str, id_: str) -> Json | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(batches).where(_own(tenant, id_)))).one_or_none()
        return self._batch(row) if row else None

    async def list(self, tenant: str, after: str | None, limit: int, order: Order = "desc") -> Page[Json] | None:
        """None: there is no batch `after`."""
        async with self._database.read() as connection:
            return await page(connection, batches, batches.c.tenant == tenant, after, limit, order, self._batch)

    async def update(self, tenant: str, id_: str, change: Callable[[Json], Json]) -> Json | None:
        """Puts what `change` makes of the batch in its place, nobody else changing it meanwhile. Whoever listens is told."""
        async with self._database.begin() as connection:
            found = select(batches).where(_own(tenant, id_)).with_for_update()
            row = (await connection.execute(found)).one_or_none()
            if row is None:
                return None
            changed = change(self._batch(row))
            content = self._dump(tenant, changed)
            await connection.execute(update(batches).where(batches.c.id == id_).values(content=content))
            self._database.tell(_topic(id_))
        return changed

    @contextmanager
    def listening(self, id_: str) -> Iterator[asyncio.Event]:
        """An event that is set when this process has changed the batch; other processes change it as well."""
        with self._database.listening(_topic(id_)) as heard:
            yield heard

    async def add_result(self, id_: str, line: int, result: Json, *, failed: bool) -> None:
        """Stores what came of a line; the first to come stays."""
        content = self._seal.dump(result, "results", id_, line)
        row = {"batch": id_, "line": line, "failed": failed, "content": content}
        async with self._database.begin() as connection:
            await connection.execute(self._database.insert(results, row))

    async def lines(self, id_: str) -> set[int]:
        """Those that have a result."""
        async with self._database.read() as connection:
            return set((await connection.execute(select(results.c.line).where(results.c.batch == id_))).scalars())

    async def counts(self, id_: str) -> tuple[int, int]:
        """How many results there are: of lines that went well, and that failed."""
        asked = select(results.c.failed, func.count().label("lines")).where(results.c.batch == id_).group_by(results.c.failed)
        async with self._database.read() as connection:
            counted = {row.failed: row.lines for row in await connection.execute(asked)}
        return counted.get(False, 0), counted.get(True, 0)

    async def results(self, id_: str, *, failed: bool) -> AsyncIterator[Json]:
        """The results of either kind, in the order of their lines."""
        last = -1
        own = and_(results.c.batch == id_, results.c.failed.is_(failed))
        while True:
            found = select(results.c.line, results.c.content).where(own, results.c.line > last)
            async with self._database.read() as connection:
                some = (await connection.execute(found.order_by(results.c.line).limit(_READ))).all()
            for last, content in some:
                yield self._seal.load(content, "results", id_, last)
            if len(some) < _READ:
                return

    async def forget_results(self, id_: str) -> None:
        """Deletes them: they are in a file."""
        async with self._database.begin() as connection:
            await connection.execute(delete(results).where(results.c.batch == id_))

    async def expire(self, before: float) -> None:
        """Deletes what was stored earlier (unix seconds)."""
        async with self._database.begin() as connection:
            await connection.execute(delete(batches).where(batches.c.created < before))

    def _dump(self, tenant: str, batch: Json) -> bytes:
        return self._seal.dump(batch, "batches", tenant, batch["id"])

    def _batch(self, row: Row[Any]) -> Json:
        batch: Json = self._seal.load(row.content, "batches", row.tenant, row.id)
        return batch


def _own(tenant: str, id_: str) -> ColumnElement[bool]:
    return and_(batches.c.id == id_, batches.c.tenant == tenant)


def _topic(id_: str) -> str:
    return f"batches/{id_}"
