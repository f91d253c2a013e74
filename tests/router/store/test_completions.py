"""Stored chat completions: found by id, by metadata and model, page by page, by their tenant alone."""

from typing import Any

from router.store.store import Store


def made(number: int, model: str = "m") -> dict[str, Any]:
    return {"id": f"chatcmpl-{number}", "model": model, "choices": [{"message": {"content": "\0é"}}]}


MESSAGES: list[dict[str, Any]] = [{"id": "chatcmpl-0-0", "role": "user", "content": "Hi"}]


async def ids(store: Store, tenant: str = "t", **asked: Any) -> list[object]:
    known = {"model": None, "metadata": {}, "after": None, "limit": 10, "order": "asc", **asked}
    page = await store.completions.list(tenant, **known)
    assert page is not None
    return [completion["id"] for completion in page.data]


async def test_one_makes_a_round_trip(store: Store) -> None:
    await store.completions.put("t", made(0), MESSAGES, {"a": "b\0"})
    stored = await store.completions.get("t", "chatcmpl-0")
    assert stored is not None
    assert (stored.completion, stored.messages) == ({**made(0), "metadata": {"a": "b\0"}}, MESSAGES)
    assert await ids(store, metadata={"a": "b\0"}) == ["chatcmpl-0"]
    assert await store.completions.update("t", "chatcmpl-0", {"a": "c", "d": "e"}) == {
        **made(0),
        "metadata": {"a": "c", "d": "e"},
    }
    assert await ids(store, metadata={"a": "b\0"}) == []
    assert await ids(store, metadata={"a": "c", "d": "e"}) == ["chatcmpl-0"]
    assert await store.completions.delete("t", "chatcmpl-0")
    assert not await store.completions.delete("t", "chatcmpl-0")
    assert await store.completions.get("t", "chatcmpl-0") is None


async def test_lists(store: Store) -> None:
    for number in range(4):
        await store.completions.put("t", made(number, "even" if number % 2 == 0 else "odd"), MESSAGES, {"n": str(number // 2)})
    assert await ids(store) == [f"chatcmpl-{number}" for number in range(4)]
    assert await ids(store, order="desc", limit=2) == ["chatcmpl-3", "chatcmpl-2"]
    assert await ids(store, after="chatcmpl-1") == ["chatcmpl-2", "chatcmpl-3"]
    assert await ids(store, model="odd") == ["chatcmpl-1", "chatcmpl-3"]
    assert await ids(store, model="odd", metadata={"n": "1"}) == ["chatcmpl-3"]
    assert await store.completions.list("t", None, {}, "chatcmpl-9", 10, "asc") is None


async def test_keys_that_no_database_tells_apart_are_one_label(store: Store) -> None:
    metadata = {"a\0": "1", "a?": "2"}
    await store.completions.put("t", made(0), MESSAGES, metadata)
    found = await store.completions.get("t", "chatcmpl-0")
    assert found is not None
    assert found.completion["metadata"] == metadata
    assert await ids(store, metadata={"a?": "2"}) == ["chatcmpl-0"]


async def test_tenants_do_not_see_each_other(store: Store) -> None:
    await store.completions.put("t", made(0), MESSAGES, {"a": "b"})
    assert await store.completions.get("u", "chatcmpl-0") is None
    assert await store.completions.update("u", "chatcmpl-0", {}) is None
    assert not await store.completions.delete("u", "chatcmpl-0")
    assert await ids(store, "u") == []
    assert await ids(store) == ["chatcmpl-0"]


async def test_they_expire_with_all_else(store: Store) -> None:
    await store.completions.put("t", made(0), MESSAGES, {"a": "b"})
    await store.expire(0)
    assert await ids(store) == ["chatcmpl-0"]
    await store.expire(1e12)
    assert await ids(store) == []
    await store.completions.put("t", made(0), MESSAGES, {"a": "b"})
