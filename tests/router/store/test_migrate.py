"""What migrations make is what the tables say, on each database."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, TextClause, text

from ossia.common.errors import UserError
from router.store import database
from router.store.keys import StoredKey
from router.store.migrate import config, upgrade
from router.store.seal import Seal
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


async def test_what_the_first_release_stored_is_taken_over(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Store(url)
    with monkeypatch.context() as patch:
        patch.setattr(database, "upgrade", lambda connection: command.upgrade(config(connection), "0001"))
        await old.open()
    key = {"id": "key_1", "digest": "d", "tenant": "acme", "name": "ci", "limits": '{"tokens_per_day": 9}', "created": 1.0}
    work = {"kind": "batch", "tenant": "acme", "priority": 0, "attempt": 0, "free_at": 0.0}
    async with old.database.begin() as connection:
        await connection.execute(_row("keys", key), key)
        for id_ in ("1", "2"):
            row = {**work, "id": id_, "content": Seal().dump({"n": id_}, "work", "batch", "acme", id_)}
            await connection.execute(_row("work", row), row)
    await old.close()
    new = Store(url)
    assert await new.keys.find("d") == StoredKey("key_1", "d", "acme", "ci", limits={"tokens_per_day": 9}, created=1.0)
    await new.work.add("batch", "3", "other", {})
    claims = [await new.work.claim("batch", "me", 60) for _ in range(4)]
    assert [claim and claim.id for claim in claims] == ["1", "2", "3", None]
    await new.close()


def _row(table: str, values: Mapping[str, object]) -> TextClause:
    return text(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})")


async def test_a_database_of_a_newer_version_is_told_in_one_line(url: str) -> None:
    store = Store(url)
    async with store.database.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await store.close()
    with pytest.raises(UserError, match="9999"):
        await store.open()
