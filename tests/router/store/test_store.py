"""What all parts share: transactions, encryption, opening."""

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from ossia.common.errors import UserError
from router.store.database import Unavailable
from router.store.seal import Seal
from router.store.store import Store
from tests.router.store.conftest import KEY

OTHER = bytes(reversed(KEY))
SECRET = "a secret that nobody else may read"


async def put(store: Store, id_: str = "resp_1") -> None:
    await store.responses.put("a", {"id": id_, "text": SECRET}, [], conversation=None, previous=None)


async def get(url: str, *keys: bytes) -> object:
    store = Store(url, keys)
    try:
        found = await store.responses.get("a", "resp_1")
        return found and found.response["text"]
    finally:
        await store.close()


async def test_contents_are_nowhere_in_the_files(tmp_path: Path) -> None:
    for name, keys in (("sealed", [KEY]), ("plain", [])):
        store = Store(f"sqlite:///{tmp_path}/{name}.db", keys)
        await put(store)
        await store.files.put("a", "file-1", _once(SECRET.encode()), _described)
        await store.reasoning.put("a", "call_1", SECRET, 2e9)
        await store.close()
    assert (tmp_path / "plain.db").read_bytes().count(SECRET.encode()) == 3
    assert SECRET.encode() not in (tmp_path / "sealed.db").read_bytes()


def _described(size: int) -> dict[str, object]:
    return {"id": "file-1", "purpose": "x", "expires_at": None}


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_keys_can_be_exchanged(url: str) -> None:
    store = Store(url, [KEY])
    await put(store)
    await store.close()
    assert await get(url, OTHER, KEY) == SECRET
    with pytest.raises(UserError, match="--encryption-key-file"):
        await get(url, OTHER)
    with pytest.raises(UserError, match="--encryption-key-file"):
        await get(url)


async def test_plain_contents_stay_readable_with_a_key(url: str) -> None:
    store = Store(url)
    await put(store)
    await store.close()
    assert await get(url, KEY) == SECRET


def test_a_content_has_its_place() -> None:
    seal = Seal([KEY])
    assert seal.load(seal.dump({"a": 1}, "x", 1), "x", 1) == {"a": 1}
    assert seal.dump(1, "x") != seal.dump(1, "x")
    with pytest.raises(UserError, match="x/2"):
        seal.load(seal.dump({"a": 1}, "x", 1), "x", 2)


async def test_a_transaction_is_all_or_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.transaction():
            await put(store)
            assert await store.responses.get("a", "resp_1")
            raise ZeroDivisionError
    assert await store.responses.get("a", "resp_1") is None


async def test_other_tasks_are_in_no_transaction_but_their_own(store: Store) -> None:
    async with store.transaction():
        await put(store)
        task = asyncio.create_task(store.responses.get("a", "resp_1"))
        assert await task is None
    assert await store.responses.get("a", "resp_1")


async def test_nothing_is_lost_when_clients_leave(store: Store) -> None:
    tasks = [asyncio.create_task(put(store, f"resp_{number}")) for number in range(40)]
    for task in tasks[::2]:
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in done)
    for number in range(1, 40, 2):
        assert await store.responses.get("a", f"resp_{number}")
    await put(store, "resp_after")


async def test_gateways_may_start_together(url: str) -> None:
    stores = [Store(url) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    await put(stores[0])
    assert await stores[3].responses.get("a", "resp_1")
    for store in stores:
        await store.close()


async def test_a_store_in_memory_needs_no_opening() -> None:
    store = Store("sqlite://")
    await asyncio.gather(*(put(store, f"resp_{number}") for number in range(8)))
    assert await store.responses.get("a", "resp_7")
    await store.close()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("nonsense", "must be a URL"),
        ("mysql://somewhere/db", "mysql is not supported"),
        ("sqlite:////nowhere/at/all.db", "cannot be used: unable to open"),
        ("postgresql://ossia:password@127.0.0.1:1/none", "cannot be used"),
    ],
)
async def test_mistakes_of_the_operator_are_told(wrong: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        await Store(wrong).open()
    assert "password" not in str(caught.value)


async def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database" * 100)
    with pytest.raises(UserError, match="not a database"):
        await Store(f"sqlite:///{tmp_path}/x.db").open()
    assert sqlite3.sqlite_version_info > (3, 35), "needs RETURNING"


async def test_errors_of_the_database_do_not_tell_contents(url: str) -> None:
    """They go into the log."""
    store = Store(url)
    with pytest.raises(IntegrityError) as caught:
        await store.events.append("resp_none", [{"sequence_number": 0, "text": SECRET}])
    assert SECRET not in str(caught.value)
    await store.close()


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
@pytest.mark.parametrize("state", ["53300", "57P03", "57P01", "53100", "40P01", "25006"])
async def test_a_server_that_cannot_serve_now_may_later(store: Store, state: str) -> None:
    """It is starting or stopping, full, a standby that a failover has left behind, or ended a deadlock."""
    with pytest.raises(Unavailable):
        async with store.database.begin() as connection:
            await connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '{state}'; END $$"))
    with pytest.raises(ProgrammingError):
        async with store.database.begin() as connection:
            await connection.execute(text("SELECT nothing"))


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
@pytest.mark.parametrize("error", [socket.gaierror(-3, "no name server answers"), TimeoutError()])
async def test_a_server_that_is_not_found_now_may_be_later(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    await store.database._engine.dispose()  # type: ignore[union-attr]
    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", fail)
    with pytest.raises(Unavailable):
        await put(store)
