"""Files, their bytes in pieces. Knows nothing of what is in them."""

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, insert, or_, select, update

from router.store.database import Database
from router.store.page import Order, Page, page
from router.store.responses import Json
from router.store.seal import Seal
from router.store.tables import chunks, files

CHUNK = 1 << 20  # bytes
_LONGEST_S = 24 * 3600.0  # that a file may take to come in


class Files:
    """Files by id; every one is seen by its tenant alone, once all of it is there and until it expires."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def put(self, tenant: str, id_: str, content: AsyncIterable[bytes], describe: Callable[[int], Json]) -> Json:
        """Stores what comes, as `write` does, and lets it be seen."""
        described = await self.write(tenant, id_, content, describe)
        await self.show(tenant, described)
        return described

    async def write(self, tenant: str, id_: str, content: AsyncIterable[bytes], describe: Callable[[int], Json]) -> Json:
        """Stores what comes, to be shown, or to be forgotten after a day; returns what `describe` says of so many bytes.

        That has the file's "id", "purpose" and "expires_at" (unix seconds, or None). Nothing is left where either raises.
        """
        row = {"id": id_, "tenant": tenant, "purpose": "", "created": time.time(), "complete": False, "content": b""}
        async with self._database.begin() as connection:
            await connection.execute(insert(files).values(row))
        try:
            size = await self._fill(id_, content)
            return describe(size)
        except BaseException:
            await self._remove(files.c.id == id_)
            raise

    async def show(self, tenant: str, described: Json) -> None:
        """A file that was written is seen from now on."""
        id_ = str(described["id"])
        sealed = self._seal.dump(described, "files", tenant, id_)
        shown = {"purpose": described["purpose"], "expires": described["expires_at"], "content": sealed, "complete": True}
        async with self._database.begin() as connection:
            await connection.execute(update(files).where(files.c.id == id_, files.c.tenant == tenant).values(shown))

    async def get(self, tenant: str, id_: str) -> Json | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(files).where(self._seen(tenant), files.c.id == id_))).one_or_none()
        return self._described(row) if row else None

    async def content(self, id_: str) -> AsyncIterator[bytes]:
        """The bytes of a file that `get` has found, in pieces."""
        number = 0
        while (sealed := await self._chunk(id_, number)) is not None:
            yield self._seal.open(sealed, "chunks", id_, number)
            number += 1

    async def list(self, tenant: str, purpose: str | None, after: str | None, limit: int, order: Order) -> Page[Json] | None:
        """None: there is no file `after`."""
        own = self._seen(tenant)
        if purpose is not None:
            own = and_(own, files.c.purpose == purpose)
        async with self._database.read() as connection:
            return await page(connection, files, own, after, limit, order, self._described)

    async def delete(self, tenant: str, id_: str) -> bool:
        """Whether it was there."""
        return await self._remove(self._seen(tenant), files.c.id == id_)

    async def expire(self, before: float) -> None:
        """Deletes what was stored earlier (unix seconds), what has expired by itself, and what nobody has gone on writing."""
        now = self._database.now
        left = and_(files.c.complete.is_(False), files.c.created < now - _LONGEST_S)
        await self._remove(or_(files.c.created < before, files.c.expires <= now, left))

    async def _fill(self, id_: str, content: AsyncIterable[bytes]) -> int:
        """Each piece is a transaction of its own: uploads are slow."""
        size = number = 0
        async for piece in _cut(content):
            sealed = self._seal.close(piece, "chunks", id_, number)
            async with self._database.begin() as connection:
                await connection.execute(insert(chunks).values(file=id_, number=number, content=sealed))
            size += len(piece)
            number += 1
        return size

    async def _chunk(self, id_: str, number: int) -> bytes | None:
        found = select(chunks.c.content).where(chunks.c.file == id_, chunks.c.number == number)
        async with self._database.read() as connection:
            content: bytes | None = (await connection.execute(found)).scalar_one_or_none()
        return content

    async def _remove(self, *which: ColumnElement[bool]) -> bool:
        async with self._database.begin() as connection:
            return bool((await connection.execute(delete(files).where(*which))).rowcount)

    def _seen(self, tenant: str) -> ColumnElement[bool]:
        lasting = or_(files.c.expires.is_(None), files.c.expires > self._database.now)
        return and_(files.c.tenant == tenant, files.c.complete, lasting)

    def _described(self, row: Row[Any]) -> Json:
        described: Json = self._seal.load(row.content, "files", row.tenant, row.id)
        return described


async def _cut(content: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes, in pieces of CHUNK but for the last."""
    piece = bytearray()
    async for data in content:
        piece += data
        while len(piece) >= CHUNK:
            yield bytes(piece[:CHUNK])
            del piece[:CHUNK]
    if piece:
        yield bytes(piece)
