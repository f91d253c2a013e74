"""The vault: what a model thought before it called a tool, kept until the call's result comes. Knows no text's meaning."""

from collections.abc import Sequence

from sqlalchemy import delete, select

from router.store.database import Database
from router.store.seal import Seal
from router.store.tables import reasoning


class Reasoning:
    """Chain of thought by tenant and call id."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def put(self, tenant: str, call_id: str, text: str, expires_at: float) -> None:
        """`expires_at` in unix seconds, by the database's clock."""
        content = self._seal.dump(text, "reasoning", tenant, call_id)
        row = {"tenant": tenant, "call": call_id, "expires": expires_at, "content": content}
        async with self._database.begin() as connection:
            await connection.execute(self._database.insert(reasoning, row, ("expires", "content")))

    async def get(self, tenant: str, call_ids: Sequence[str]) -> dict[str, str]:
        """What is kept of these calls, by their ids."""
        found = select(reasoning.c.call, reasoning.c.content).where(
            reasoning.c.tenant == tenant, reasoning.c.call.in_(call_ids), reasoning.c.expires > self._database.now
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(found)).all()
        return {row.call: self._seal.load(row.content, "reasoning", tenant, row.call) for row in rows}

    async def expire(self) -> None:
        """Deletes what has expired."""
        async with self._database.begin() as connection:
            await connection.execute(delete(reasoning).where(reasoning.c.expires <= self._database.now))
