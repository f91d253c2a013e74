"""What each account has used, changed by one gateway at a time. Knows no limit."""

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import delete, select, update

from router.store.database import Database
from router.store.tables import accounts

T = TypeVar("T")
Tally = dict[str, Any]
_DAY_S = 86_400


class Counters:
    """A tally an account, a JSON object that is empty at first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def change(self, account: str, step: Callable[[Tally, float], tuple[Tally, T]]) -> T:
        """Gives `step` the tally and the database's time (unix seconds), and keeps the tally that it returns.

        No other process changes the account's tally meanwhile. What `step` raises leaves it as it was.
        """
        mine = accounts.c.name == account
        async with self._database.begin() as connection:
            await connection.execute(self._database.insert(accounts, {"name": account, "changed": 0.0, "tally": {}}))
            locked = select(accounts.c.tally, self._database.now.label("now")).where(mine).with_for_update()
            row = (await connection.execute(locked)).one()
            tally, result = step(row.tally, row.now)
            await connection.execute(update(accounts).where(mine).values(tally=tally, changed=row.now))
        return result

    async def expire(self) -> None:
        """Forgets accounts that nobody has used for two days: whatever they used is over."""
        idle = accounts.c.changed < self._database.now - 2 * _DAY_S
        async with self._database.begin() as connection:
            await connection.execute(delete(accounts).where(idle))
