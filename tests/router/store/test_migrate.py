"""What migrations make is what the tables say, on each database."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from ossia.common.errors import UserError
from router.store.migrate import upgrade
from router.store.store import Store
from router.store.tables import metadata

PROGRAM = """
import asyncio
from router.store.config import StoreConfig, opened
async def main():
    async with opened(StoreConfig("sqlite:///x.db"), 1):
        pass
asyncio.run(main())
"""


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))


async def test_migrations_make_the_tables(store: Store) -> None:
    async with store.database.begin() as connection:
        assert await connection.run_sync(differences) == []
        await connection.run_sync(upgrade)


def test_they_do_not_depend_on_where_one_stands(tmp_path: Path) -> None:
    """As when the gateway is installed and started from somewhere."""
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env={"PYTHONPATH": f"{root}:{root / 'proto'}"}, check=True)
    assert (tmp_path / "x.db").stat().st_size > 0


async def test_a_database_of_a_newer_version_is_told_in_one_line(url: str) -> None:
    store = Store(url)
    async with store.database.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await store.close()
    with pytest.raises(UserError, match="9999"):
        await store.open()
