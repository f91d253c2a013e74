"""What the gateway keeps: one database, one part a kind of thing. Knows no HTTP.

Nothing in here belongs to a process: any gateway on the same database goes on where another one was.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from router.store.batches import Batches
from router.store.completions import Completions
from router.store.conversations import Conversations
from router.store.counters import Counters
from router.store.database import Database
from router.store.events import Events
from router.store.files import Files
from router.store.keys import Keys
from router.store.reasoning import Reasoning
from router.store.responses import Responses
from router.store.seal import Seal
from router.store.secrets import Secrets
from router.store.work import WorkQueue


class Store:
    """`url` is SQLAlchemy's: `sqlite:///FILE`, `sqlite://` for one that ends with the process, `postgresql://USER@HOST/NAME`.

    `keys` of 32 bytes encrypt contents: the first one does, all of them decrypt. Raises UserError for a URL of anything else.
    """

    def __init__(self, url: str, keys: Sequence[bytes] = ()) -> None:
        seal = Seal(keys)
        self.database = Database(url)
        self.responses = Responses(self.database, seal)
        self.events = Events(self.database, seal)
        self.completions = Completions(self.database, seal)
        self.conversations = Conversations(self.database, seal)
        self.files = Files(self.database, seal)
        self.batches = Batches(self.database, seal)
        self.work = WorkQueue(self.database, seal)
        self.reasoning = Reasoning(self.database, seal)
        self.keys = Keys(self.database)
        self.counters = Counters(self.database)
        self.secrets = Secrets(self.database, seal)

    async def open(self) -> None:
        """Connects and migrates; without it, the first use does. Raises UserError."""
        await self.database.open()

    async def close(self) -> None:
        await self.database.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """What this task stores inside happens all or not at all, and for others at once. Keep it short: it holds off whoever
        else writes to SQLite.
        """
        async with self.database.begin():
            yield

    async def expire(self, before: float) -> None:
        """Deletes what was stored earlier (unix seconds), and what has expired by itself."""
        await self.responses.expire(before)
        await self.completions.expire(before)
        await self.conversations.expire(before)
        await self.files.expire(before)
        await self.batches.expire(before)
        await self.reasoning.expire()
        await self.counters.expire()
