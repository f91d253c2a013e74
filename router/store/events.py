"""The events of responses that run in the background, for those who come later or again. Knows no event's meaning."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import delete, insert, select

from router.store.database import Database
from router.store.responses import Json
from router.store.seal import Seal
from router.store.tables import events

_MOST = 1 << 62  # what databases take as a number


class Events:
    """Events by response and "sequence_number"; the response must be stored, and they are deleted with it.

    Not scoped by tenant: whoever reads them has read the response, which is.
    """

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def append(self, response_id: str, added: Sequence[Json]) -> None:
        """Stores events, none of whose numbers may be there. Whoever listens is told."""
        rows = [
            {"response": response_id, "number": item["sequence_number"], "content": self._dump(response_id, item)}
            for item in added
        ]
        if rows:
            async with self._database.begin() as connection:
                await connection.execute(insert(events), rows)
                self._database.tell(_topic(response_id))

    async def read(self, response_id: str, after: int = -1) -> list[Json]:
        """Those with a greater sequence number, in their order."""
        found = select(events.c.number, events.c.content).where(
            events.c.response == response_id, events.c.number > max(-1, min(after, _MOST))
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(found.order_by(events.c.number))).all()
        return [self._seal.load(row.content, "events", response_id, row.number) for row in rows]

    async def clear(self, response_id: str, after: int = -1) -> None:
        """Forgets those with a greater sequence number."""
        gone = delete(events).where(events.c.response == response_id, events.c.number > after)
        async with self._database.begin() as connection:
            await connection.execute(gone)

    @contextmanager
    def listening(self, response_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when this process appended some: clear it before reading, and wait for it for a second at most,
        for other processes append as well.
        """
        with self._database.listening(_topic(response_id)) as heard:
            yield heard

    def _dump(self, response_id: str, item: Json) -> bytes:
        return self._seal.dump(item, "events", response_id, item["sequence_number"])


def _topic(response_id: str) -> str:
    return f"events/{response_id}"
