"""Files, batches and their results."""

import functools
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from router.store.files import CHUNK
from router.store.store import Store

Json = dict[str, object]


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


def described(id_: str, size: int, purpose: str = "batch", expires_at: float | None = None) -> Json:
    return {"id": id_, "bytes": size, "purpose": purpose, "expires_at": expires_at}


async def put(store: Store, id_: str, *data: bytes, tenant: str = "a", **more: Any) -> Json:
    return await store.files.put(tenant, id_, pieces(*data), lambda size: described(id_, size, **more))


async def read(store: Store, id_: str) -> bytes:
    return b"".join([piece async for piece in store.files.content(id_)])


async def test_a_file_comes_back_whole(store: Store) -> None:
    data = secrets.token_bytes(2 * CHUNK + 10)
    parts = (data[:7], data[7 : CHUNK * 2], data[CHUNK * 2 :])
    assert (await put(store, "file-1", *parts))["bytes"] == len(data)
    assert await store.files.get("a", "file-1") == described("file-1", len(data))
    assert await read(store, "file-1") == data
    await put(store, "file-2")
    assert await read(store, "file-2") == b""


async def test_a_file_is_its_tenants(store: Store) -> None:
    await put(store, "file-1", b"x")
    assert await store.files.get("b", "file-1") is None
    assert not await store.files.delete("b", "file-1")
    assert await store.files.delete("a", "file-1")
    assert await read(store, "file-1") == b""


async def test_of_an_upload_that_fails_nothing_is_left(store: Store) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * CHUNK
        assert await store.files.get("a", "file-1") is None, "half a file is shown"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await store.files.put("a", "file-1", broken(), lambda size: described("file-1", size))
    assert await read(store, "file-1") == b""


async def test_what_is_written_is_seen_once_it_is_shown(store: Store) -> None:
    written = await store.files.write("a", "file-1", pieces(b"x"), lambda size: described("file-1", size))
    assert await store.files.get("a", "file-1") is None
    await store.files.show("b", written)
    assert await store.files.get("a", "file-1") is None
    await store.files.show("a", written)
    assert await store.files.get("a", "file-1") == written


async def test_files_that_nobody_goes_on_writing_are_deleted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for id_, age in (("file-1", 25 * 3600), ("file-2", 3600)):
        with monkeypatch.context() as then:
            then.setattr(time, "time", (time.time() - age).__float__)
            await store.files.write("a", id_, pieces(b"x"), functools.partial(described, id_))
    await store.expire(0)
    assert [await read(store, id_) for id_ in ("file-1", "file-2")] == [b"", b"x"]


async def test_files_expire(store: Store) -> None:
    await put(store, "file-1", b"x", expires_at=time.time() - 1)
    await put(store, "file-2", b"x", expires_at=time.time() + 60)
    assert await store.files.get("a", "file-1") is None
    assert await store.files.get("a", "file-2")
    await store.expire(time.time() - 60)
    assert await read(store, "file-1") == b""
    await store.expire(time.time() + 1)
    assert await read(store, "file-2") == b""


async def test_files_are_listed_by_pages(store: Store) -> None:
    for number in range(5):
        await put(store, f"file-{number}", purpose="batch" if number % 2 else "batch_output")
    page = await store.files.list("a", None, None, 3, "desc")
    assert page is not None
    assert ([file["id"] for file in page.data], page.more) == (["file-4", "file-3", "file-2"], True)
    page = await store.files.list("a", None, "file-2", 3, "desc")
    assert page is not None
    assert ([file["id"] for file in page.data], page.more) == (["file-1", "file-0"], False)
    page = await store.files.list("a", "batch", None, 3, "asc")
    assert page is not None
    assert ([file["id"] for file in page.data], page.more) == (["file-1", "file-3"], False)
    assert await store.files.list("a", None, "file-9", 3, "asc") is None
    assert await store.files.list("b", None, "file-1", 3, "asc") is None


async def test_a_batch_changes_in_one_piece(store: Store) -> None:
    await store.batches.put("a", {"id": "batch_1", "status": "validating"})
    with store.batches.listening("batch_1") as heard:
        assert await store.batches.update("b", "batch_1", dict) is None
        assert not heard.is_set()
        changed = await store.batches.update("a", "batch_1", lambda batch: {**batch, "status": "failed"})
        assert heard.is_set()
    assert changed == await store.batches.get("a", "batch_1") == {"id": "batch_1", "status": "failed"}
    assert await store.batches.get("b", "batch_1") is None
    page = await store.batches.list("a", None, 10)
    assert page is not None
    assert page.data == [changed]


async def test_results_are_kept_by_line_and_once(store: Store) -> None:
    await store.batches.put("a", {"id": "batch_1"})
    for line in reversed(range(150)):
        await store.batches.add_result("batch_1", line, {"line": line}, failed=line % 10 == 0)
    await store.batches.add_result("batch_1", 3, {"line": "again"}, failed=True)
    assert await store.batches.counts("batch_1") == (135, 15)
    assert await store.batches.lines("batch_1") == set(range(150))
    good = [result["line"] async for result in store.batches.results("batch_1", failed=False)]
    assert good == [line for line in range(150) if line % 10]
    bad = [result["line"] async for result in store.batches.results("batch_1", failed=True)]
    assert bad == list(range(0, 150, 10))
    await store.batches.forget_results("batch_1")
    assert await store.batches.counts("batch_1") == (0, 0)
