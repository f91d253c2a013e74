"""A store on each database: SQLite in a file, and a PostgreSQL of the tests' own."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from router.store.store import Store
from tests.fakes.postgres import postgres_server

KEY = bytes(range(32))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database that is empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    server, name = request.getfixturevalue("postgres"), f"t{secrets.token_hex(8)}"
    connection = await asyncpg.connect(f"{server}/postgres")
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return f"{server}/{name}"


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    store = Store(url, [KEY])
    await store.open()
    yield store
    await store.close()
