"""Stored chat completions through the official client."""

from typing import Any

import openai
import pytest

from router.access.principal import Principal
from router.store.completions import Completions
from router.store.database import Unavailable
from tests.fakes.scripted import MODEL, ScriptedEngine, answer, call, pairs
from tests.router.gateway.test_chat import ASK, TOOLS, collect

PARTS = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "ann"}]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_stored_is_what_was_answered(start: Any, stream: bool) -> None:
    gateway = await start(ScriptedEngine(*pairs(call("weather", '{"city":"Oslo"}', "Look."), 2)))
    chats = gateway.client.chat.completions
    asked = {"model": MODEL, "messages": PARTS, "tools": TOOLS, "store": True, "metadata": {"a": "b"}, "n": 2}
    if stream:
        got = await collect(await chats.create(**asked, stream=True))
        id_ = got["chunks"][0].id
    else:
        whole = await chats.create(**asked)
        id_ = whole.id
    stored = await chats.retrieve(id_)
    assert stored.metadata == {"a": "b"}
    assert [choice.message.tool_calls[0].function.arguments for choice in stored.choices] == ['{"city":"Oslo"}'] * 2
    assert stored.choices[0].message.reasoning == "Look."
    assert stored.usage.completion_tokens > 0
    if not stream:
        assert {**whole.model_dump(), "metadata": {"a": "b"}} == stored.model_dump()
    told = await chats.messages.list(id_)
    assert [message.model_dump(exclude_none=True) for message in told.data] == [
        {"id": f"{id_}-0", "role": "user", "content": "ab", "content_parts": PARTS[0]["content"], "name": "ann"}
    ]


async def test_a_database_that_is_away_is_told_as_such(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> None:
        raise Unavailable("no route to host")

    gateway = await start(ScriptedEngine(answer("x")))
    monkeypatch.setattr(Completions, "put", away)
    with pytest.raises(openai.InternalServerError) as whole:
        await gateway.client.chat.completions.create(**ASK, store=True)
    assert (whole.value.status_code, whole.value.code) == (503, "unavailable")
    with pytest.raises(openai.APIError) as stream:
        await collect(await gateway.client.chat.completions.create(**ASK, store=True, stream=True))
    assert stream.value.code == "unavailable"


async def test_nothing_is_stored_unasked(start: Any) -> None:
    gateway = await start(ScriptedEngine(answer("x")))
    chats = gateway.client.chat.completions
    for store in (None, False):
        with pytest.raises(openai.NotFoundError) as error:
            await chats.retrieve((await chats.create(**ASK, store=store)).id)
        assert error.value.code == "completion_not_found"
    assert (await chats.list()).data == []


async def test_listed_tagged_and_deleted(start: Any) -> None:
    gateway = await start(ScriptedEngine(answer("x")))
    chats = gateway.client.chat.completions
    made = [(await chats.create(**ASK, store=True, metadata={"n": str(number % 2)})).id for number in range(4)]
    assert [chat.id async for chat in chats.list(limit=3)] == made
    assert [chat.id async for chat in chats.list(order="desc", metadata={"n": "1"})] == [made[3], made[1]]
    assert [chat.id async for chat in chats.list(model="other")] == []
    changed = await chats.update(made[0], metadata={"n": "1", "note": "é"})
    assert changed.metadata == {"n": "1", "note": "é"}
    assert [chat.id async for chat in chats.list(metadata={"n": "1", "note": "é"})] == [made[0]]
    gone = await chats.delete(made[0])
    assert (gone.deleted, gone.object) == (True, "chat.completion.deleted")
    assert [chat.id async for chat in chats.list()] == made[1:]
    for missing in (chats.delete(made[0]), chats.update(made[0], metadata={}), chats.messages.list(made[0])):
        with pytest.raises(openai.NotFoundError):
            await missing


QUERIES = ["limit=0", "order=up", "after=nobody", "metadata=1", "metadata[a]=b&x=1", "x[y]=1", "limit=1&limit=2", "after[x]=1"]
QUERIES += ["metadata=1&metadata[a]=b", "metadata[a]=b&metadata=1"]


@pytest.mark.parametrize("query", QUERIES)
async def test_queries_that_are_wrong(start: Any, query: str) -> None:
    gateway = await start(ScriptedEngine(answer("x")))
    response = await gateway.http.get(f"/v1/chat/completions?{query}")
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_a_tenant_sees_its_own(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = await start(ScriptedEngine(answer("x")))
    chats = gateway.client.chat.completions
    made = (await chats.create(**ASK, store=True)).id
    monkeypatch.setattr("router.gateway.entry.ANYBODY", Principal("another"))
    with pytest.raises(openai.NotFoundError):
        await chats.retrieve(made)
    assert (await chats.list()).data == []
