"""Responses, and the events of those in the background."""

import pytest
from sqlalchemy.exc import IntegrityError

from router.store.store import Store


def response(id_: str, **more: object) -> dict[str, object]:
    return {"id": id_, "object": "response", **more}


async def put(store: Store, id_: str, previous: str | None = None, tenant: str = "a") -> None:
    items: list[dict[str, object]] = [{"id": f"item_{id_}"}]
    await store.responses.put(tenant, response(id_), items, conversation=None, previous=previous)


async def test_a_response_is_kept_with_its_items(store: Store) -> None:
    items: list[dict[str, object]] = [{"id": "msg_1", "content": "what \ud800 a client\0 may send: 你好"}]
    await store.responses.put("a", response("resp_1"), items, conversation="conv_1", previous="resp_0")
    found = await store.responses.get("a", "resp_1")
    assert found is not None
    assert (found.response, found.items, found.conversation, found.previous) == (response("resp_1"), items, "conv_1", "resp_0")


async def test_the_last_word_counts(store: Store) -> None:
    await put(store, "resp_1")
    await store.responses.put("a", response("resp_1", status="completed"), [], conversation=None, previous=None)
    found = await store.responses.get("a", "resp_1")
    assert found is not None
    assert found.response["status"] == "completed"


async def test_others_see_nothing(store: Store) -> None:
    await put(store, "resp_1")
    assert await store.responses.get("b", "resp_1") is None
    assert await store.responses.chain("b", "resp_1") == []
    assert await store.responses.some("b", ["resp_1"]) == []
    assert [each.response["id"] for each in await store.responses.some("a", ["resp_1", "resp_2"])] == ["resp_1"]
    assert not await store.responses.delete("b", "resp_1")
    assert await store.responses.get("a", "resp_1")


@pytest.mark.parametrize("id_", ["", "\0", "\ud800", "x" * 10_000])
async def test_any_id_may_be_asked_for(store: Store, id_: str) -> None:
    assert await store.responses.get("a", id_) is None
    assert await store.events.read(id_) == []


async def test_a_chain_begins_with_its_first_response(store: Store) -> None:
    await put(store, "resp_1")
    for number in range(2, 5):
        await put(store, f"resp_{number}", previous=f"resp_{number - 1}")
    await put(store, "resp_other", previous="resp_2")
    chain = await store.responses.chain("a", "resp_4")
    assert [link.response["id"] for link in chain] == ["resp_1", "resp_2", "resp_3", "resp_4"]
    await store.responses.delete("a", "resp_2")
    broken = await store.responses.chain("a", "resp_4")
    assert [link.response["id"] for link in broken] == ["resp_3", "resp_4"]
    assert broken[0].previous == "resp_2"


async def test_events_come_in_order_and_go_with_their_response(store: Store) -> None:
    await put(store, "resp_1")
    await put(store, "resp_2")
    events = [{"sequence_number": number, "type": "x"} for number in range(12)]
    with store.events.listening("resp_1") as heard, store.events.listening("resp_2") as other:
        await store.events.append("resp_1", events[:5])
        await store.events.append("resp_1", events[5:])
        assert heard.is_set()
        assert not other.is_set()
    assert await store.events.read("resp_1") == events
    assert await store.events.read("resp_1", after=8) == events[9:]
    assert await store.events.read("resp_1", after=10**30) == []
    assert await store.events.read("resp_2") == []
    await store.events.clear("resp_1", after=3)
    assert await store.events.read("resp_1", after=-(10**30)) == events[:4]
    await store.responses.delete("a", "resp_1")
    assert await store.events.read("resp_1") == []


async def test_no_event_is_stored_twice(store: Store) -> None:
    await put(store, "resp_1")
    await store.events.append("resp_1", [{"sequence_number": 0}])
    with pytest.raises(IntegrityError):
        await store.events.append("resp_1", [{"sequence_number": 1}, {"sequence_number": 0}])
    assert await store.events.read("resp_1") == [{"sequence_number": 0}]
