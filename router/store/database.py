"""SQLite or PostgreSQL behind SQLAlchemy: connections, transactions, and who is told once one is committed. Knows no table."""

import asyncio
import contextlib
import shutil
import sqlite3
import tempfile
import weakref
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alembic.util import CommandError
from sqlalchemy import URL, ColumnElement, Connection, Double, Insert, Table, event, func, literal_column, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ossia.common.errors import UserError
from router.store.migrate import upgrade
from router.store.text import storable

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
_OTHERS = 100  # who make the database at the same time
_BUSY_S = 30  # that a process waits for another one's transaction on SQLite
_PASSING = ("08", "25006", "40", "53", "57", "58")
"""PostgreSQL's SQLSTATEs, by their beginnings: connections, a standby, deadlocks, full, starts and stops, the system."""


class Unavailable(ConnectionError):
    """The database does not answer now; it may later."""


@dataclass(eq=False)
class _Transaction:
    connection: AsyncConnection
    task: "asyncio.Task[Any] | None"
    topics: set[str] = field(default_factory=set)


class Database:
    """One engine of SQLAlchemy. Opens itself at first use; `close` it on the same event loop."""

    def __init__(self, url: str) -> None:
        self._url = _parse(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._engine: AsyncEngine | None = None
        self._opening = asyncio.Lock()
        self._writing = asyncio.Lock()  # SQLite has one writer: whoever waits in here leaves its busy handler alone
        self._current: ContextVar[_Transaction | None] = ContextVar("transaction", default=None)
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    async def open(self) -> None:
        """Connects, and brings the tables up to date. Raises UserError."""
        async with self._opening:
            if self._engine is None:
                engine = self._create()
                try:
                    async with engine.begin() as connection:
                        await connection.run_sync(upgrade)
                except (DBAPIError, OSError, CommandError) as error:
                    await engine.dispose()
                    raise UserError(f"the database {self._url!r} cannot be used: {_reason(error)}") from error
                self._engine = engine

    @property
    def opened(self) -> bool:
        """Whether it has been used, which one in memory need not be."""
        return self._engine is not None

    async def close(self) -> None:
        """Lets the connections go; it may be opened again."""
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await engine.dispose()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes, or the one that the task is in already. Raises Unavailable."""
        joined = self._joined()
        if joined is not None:
            yield joined.connection
            return
        engine = await self._opened()
        turn = self._writing if self.is_sqlite else contextlib.nullcontext()
        with _translated():
            async with turn, engine.begin() as connection:
                transaction = _Transaction(connection, asyncio.current_task())
                token = self._current.set(transaction)
                try:
                    yield connection
                finally:
                    self._current.reset(token)
        for topic in transaction.topics:
            self.wake(topic)

    def tell(self, topic: str) -> None:
        """Wakes who listens, in this process, once the transaction that the task is in is committed."""
        joined = self._joined()
        assert joined is not None, "only what is committed is told"
        joined.topics.add(topic)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read with: the transaction's, where the task is in one. Raises Unavailable."""
        joined = self._joined()
        if joined is not None:
            yield joined.connection
            return
        engine = (await self._opened()).execution_options(reads=True)
        with _translated():
            async with engine.connect() as connection:
                yield connection

    @contextlib.contextmanager
    def listening(self, topic: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever this process has committed something under the topic."""
        heard = asyncio.Event()
        self._listeners[topic].add(heard)
        try:
            yield heard
        finally:
            self._listeners[topic].discard(heard)
            if not self._listeners[topic]:
                del self._listeners[topic]

    def insert(self, table: Table, values: Mapping[str, object], replace: Sequence[str] = ()) -> Insert:
        """A row; where one of its key is there, these columns of it are replaced, or with none nothing is done."""
        made = (sqlite.insert if self.is_sqlite else postgresql.insert)(table).values(values)
        if not replace:
            return made.on_conflict_do_nothing()
        keys = [column.name for column in table.primary_key.columns]
        return made.on_conflict_do_update(index_elements=keys, set_={name: values[name] for name in replace})

    async def alone(self, connection: AsyncConnection, name: str) -> None:
        """Holds off whoever else asks for this name until the transaction ends; in SQLite nobody else writes anyhow."""
        if not self.is_sqlite:
            await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(storable(name), 0))))

    @property
    def now(self) -> ColumnElement[float]:
        """The database's clock, which all processes share. Seconds since the Unix epoch."""
        if self.is_sqlite:
            return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Double)
        return func.extract("epoch", func.clock_timestamp()).cast(Double)

    def _joined(self) -> _Transaction | None:
        """The task's own transaction; a task that it started is not in it."""
        current = self._current.get()
        return current if current is not None and current.task is asyncio.current_task() else None

    async def _opened(self) -> AsyncEngine:
        await self.open()
        assert self._engine is not None
        return self._engine

    def _create(self) -> AsyncEngine:
        """Its errors, which go into the log, do not show what clients said."""
        if not self.is_sqlite:
            return create_async_engine(self._url, pool_pre_ping=True, hide_parameters=True)
        engine = create_async_engine(self._file(), hide_parameters=True, connect_args={"timeout": _BUSY_S})
        event.listen(engine.sync_engine, "connect", _prepare)
        event.listen(engine.sync_engine, "begin", _begin)
        return engine

    def _file(self) -> URL:
        """A database in memory is a file that nobody else finds: SQLite's own kind cannot be read while it is written."""
        if self._url.database and self._url.database != ":memory:":
            return self._url
        folder = tempfile.mkdtemp(prefix="ossia-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return self._url.set(database=str(Path(folder) / "store.db"))

    def wake(self, topic: str) -> None:
        """Tells who listens, in this process."""
        for heard in self._listeners.get(topic, ()):
            heard.set()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OSError, PoolTimeout) as error:
        raise Unavailable(str(error)) from error
    except DBAPIError as error:
        passing = str(getattr(error.orig, "sqlstate", "")).startswith(_PASSING)
        if passing or error.connection_invalidated or isinstance(error, InterfaceError | OperationalError):
            raise Unavailable(_reason(error)) from error
        raise


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UserError("--database must be a URL such as sqlite:///FILE or postgresql://USER@HOST/NAME") from None
    driver = _DRIVERS.get(parsed.drivername, parsed.drivername)
    if driver not in _DRIVERS.values():
        raise UserError(f"--database: {parsed.drivername} is not supported; use sqlite:///FILE or postgresql://USER@HOST/NAME")
    return parsed.set(drivername=driver)


def _prepare(connection: Any, _: object) -> None:
    connection.isolation_level = None  # else the driver begins transactions when it thinks fit
    cursor = connection.cursor()
    _write_ahead(cursor)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """SQLite does not wait for others here, as it does elsewhere: a transaction that does nothing waits for theirs to end."""
    for _ in range(_OTHERS):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("COMMIT")


def _begin(connection: Connection) -> None:
    """What writes locks at once: a transaction that began by reading would fail where another one wrote meanwhile."""
    reads = connection.get_execution_options().get("reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _reason(error: Exception) -> str:
    return str(error.orig if isinstance(error, DBAPIError) else error)
