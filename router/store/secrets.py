"""Random bytes that all gateways of a database share. Knows nothing of what they are for."""

import secrets

from sqlalchemy import select

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
