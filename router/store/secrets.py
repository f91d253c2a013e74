"""Random bytes that all gateways of a database share. Knows nothing of what they are for."""

import secrets

from sqlalchemy import select, update

from router.store import tables
from router.store.database import Database
from router.store.seal import Seal

BYTES = 32


class Secrets:
    """Secrets by name, each made at its first use and never changed."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def get(self, name: str) -> bytes:
        """32 bytes. Raises UserError where the operator's key that sealed them is missing."""
        content = self._seal.close(secrets.token_bytes(BYTES), "secrets", name)
        found = select(tables.secrets.c.content).where(tables.secrets.c.name == name)
        async with self._database.begin() as connection:
            await connection.execute(self._database.insert(tables.secrets, {"name": name, "content": content}))
            return self._seal.open((await connection.execute(found)).scalar_one(), "secrets", name)

    async def check(self) -> None:
        """Raises UserError where the operator's key is missing that the database was used with.

        What an older key sealed is sealed with the newest: secrets outlive every other content.
        """
        await self.get("check")
        table = tables.secrets
        async with self._database.begin() as connection:
            for name, content in (await connection.execute(select(table.c.name, table.c.content))).all():
                data = self._seal.open(content, "secrets", name)
                if not self._seal.fresh(content):
                    fresh = update(table).where(table.c.name == name).values(content=self._seal.close(data, "secrets", name))
                    await connection.execute(fresh)
