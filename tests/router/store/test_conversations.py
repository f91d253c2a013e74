"""Conversations, the vault, and what expires."""

import asyncio
import time

import pytest

from router.store.conversations import Duplicate
from router.store.store import Store


def items(*ids: str) -> list[dict[str, object]]:
    return [{"id": id_, "type": "message"} for id_ in ids]


async def test_those_who_merge_at_once_bring_each_item_once(store: Store) -> None:
    made = await store.conversations.create("a", {}, items("1"))
    brought = [items("1", "x", str(number), "\0", "\ud800") for number in range(2, 10)]
    assert all(await asyncio.gather(*(store.conversations.merge("a", made.id, each) for each in brought)))
    there = await store.conversations.items("a", made.id)
    assert there is not None
    assert there[0]["id"] == "1"
    assert sorted(str(item["id"]) for item in there) == ["\0", *"123456789", "x"]
    assert not await store.conversations.merge("b", made.id, items("y"))


async def test_a_conversation_grows_at_its_end(store: Store) -> None:
    made = await store.conversations.create("a", {"topic": "x"}, items("1", "2"))
    assert made.id.startswith("conv_")
    assert await store.conversations.get("a", made.id) == made
    assert await store.conversations.add("a", made.id, items("3", "0"))
    assert await store.conversations.items("a", made.id) == items("1", "2", "3", "0")
    assert await store.conversations.remove("a", made.id, "2")
    assert not await store.conversations.remove("a", made.id, "2")
    assert await store.conversations.items("a", made.id) == items("1", "3", "0")
    assert await store.conversations.item("a", made.id, "3") == items("3")[0]
    assert await store.conversations.item("a", made.id, "2") is None
    changed = await store.conversations.update("a", made.id, {"topic": "y"})
    assert changed is not None
    assert changed == await store.conversations.get("a", made.id)
    assert (changed.metadata, changed.created) == ({"topic": "y"}, made.created)


async def test_pages_of_items(store: Store) -> None:
    made = await store.conversations.create("a", {}, items("1", "2", "3"))
    page = await store.conversations.list("a", made.id, None, 2, "asc")
    assert page is not None
    assert (page.data, page.more) == (items("1", "2"), True)
    page = await store.conversations.list("a", made.id, "2", 2, "desc")
    assert page is not None
    assert (page.data, page.more) == (items("1"), False)
    assert await store.conversations.list("a", made.id, "9", 2, "asc") is None
    assert await store.conversations.list("b", made.id, None, 2, "asc") is None


async def test_items_are_added_all_or_none(store: Store) -> None:
    made = await store.conversations.create("a", {}, items("1"))
    with pytest.raises(Duplicate):
        await store.conversations.add("a", made.id, items("2", "1"))
    assert await store.conversations.items("a", made.id) == items("1")


async def test_a_conversation_is_its_tenants(store: Store) -> None:
    made = await store.conversations.create("a", {}, items("1"))
    assert await store.conversations.get("b", made.id) is None
    assert await store.conversations.items("b", made.id) is None
    assert await store.conversations.item("b", made.id, "1") is None
    assert await store.conversations.update("b", made.id, {"topic": "y"}) is None
    assert not await store.conversations.add("b", made.id, items("2"))
    assert not await store.conversations.remove("b", made.id, "1")
    assert not await store.conversations.delete("b", made.id)
    assert await store.conversations.delete("a", made.id)
    assert await store.conversations.items("a", made.id) is None


async def test_the_vault_forgets_in_time(store: Store) -> None:
    await store.reasoning.put("a", "call_1", "I should look", time.time() + 60)
    await store.reasoning.put("a", "call_2", "too late", time.time() - 1)
    await store.reasoning.put("b", "call_3", "others", time.time() + 60)
    assert await store.reasoning.get("a", ["call_1", "call_2", "call_3", "\0"]) == {"call_1": "I should look"}
    await store.reasoning.put("a", "call_1", "I looked", time.time() + 60)
    assert await store.reasoning.get("a", ["call_1"]) == {"call_1": "I looked"}
    assert await store.reasoning.get("a", []) == {}


async def test_what_is_old_goes(store: Store) -> None:
    made = await store.conversations.create("a", {}, items("1"))
    await store.responses.put("a", {"id": "resp_1"}, [], conversation=None, previous=None)
    await store.reasoning.put("a", "call_1", "over", time.time() - 1)
    await store.expire(time.time() - 60)
    assert await store.conversations.get("a", made.id)
    assert await store.responses.get("a", "resp_1")
    await store.expire(time.time() + 1)
    assert await store.conversations.get("a", made.id) is None
    assert await store.responses.get("a", "resp_1") is None


async def test_ids_of_any_characters_are_read_back(store: Store) -> None:
    items: list[dict[str, object]] = [{"id": "a\0b", "text": "x"}, {"id": "ä😀", "text": "y"}]
    made = await store.conversations.create("a", {}, items)
    assert await store.conversations.items("a", made.id) == items
    assert await store.conversations.item("a", made.id, "a\0b") == items[0]
