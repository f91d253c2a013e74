"""Conversations: their items, and responses that read and add to them."""

import asyncio
from typing import Any

import grpc
import openai
import pytest
from openai.types.conversations import Conversation, ConversationItemList
from pydantic import TypeAdapter

from router.engine import EngineError
from tests.fakes.scripted import MODEL, ScriptedEngine, answer, call
from tests.router.gateway.conftest import eventually
from tests.router.gateway.responses import strict
from tests.router.gateway.responses.conftest import ASK, WEATHER
from tests.router.gateway.responses.test_create import contains

HELLO: Any = {"role": "user", "content": "Hello"}
NOTE: Any = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Rhyme."}]}


async def test_conversations_are_made_changed_and_deleted(start: Any) -> None:
    gateway = await start(ScriptedEngine(answer("x")))
    conversations = gateway.client.conversations
    made = await conversations.create(items=[HELLO, NOTE], metadata={"a": "b"})
    body = (await gateway.http.get(f"/v1/conversations/{made.id}")).json()
    assert not list(strict.strangers(TypeAdapter(Conversation).validate_python(body, strict=True)))
    assert body["metadata"] == {"a": "b"}
    assert (await conversations.update(made.id, metadata={"c": "d"})).metadata == {"c": "d"}
    listed = (await gateway.http.get(f"/v1/conversations/{made.id}/items")).json()
    assert not list(strict.strangers(TypeAdapter(ConversationItemList).validate_python(listed, strict=True)))
    assert [item["role"] for item in listed["data"]] == ["developer", "user"]
    added = await conversations.items.create(made.id, items=[{"role": "assistant", "content": "Hi!"}])
    seen = [item async for item in conversations.items.list(made.id, limit=1, order="asc")]
    assert [item.role for item in seen] == ["user", "developer", "assistant"]
    one = await conversations.items.retrieve(added.data[0].id, conversation_id=made.id)
    assert one == added.data[0]
    assert (await conversations.items.delete(one.id, conversation_id=made.id)).id == made.id
    await conversations.delete(made.id)
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/items"), ("GET", "/items/x"), ("DELETE", "/items/x")):
        assert (await gateway.http.request(method, f"/v1/conversations/{made.id}{path}")).status_code == 404
    with pytest.raises(openai.NotFoundError):
        await conversations.items.create(made.id, items=[HELLO])
    with pytest.raises(openai.NotFoundError):
        await gateway.client.responses.create(**ASK, conversation=made.id)


async def test_a_response_goes_on_with_its_conversation(start: Any) -> None:
    engine = ScriptedEngine(call("weather", "{}", "Look."))
    gateway = await start(engine)
    conversation = (await gateway.client.conversations.create(items=[HELLO])).id
    first = await gateway.client.responses.create(**ASK, conversation=conversation, tools=[WEATHER])
    assert first.conversation is not None
    assert first.conversation.id == conversation
    engine.script = (answer("Sunny."),)
    result: Any = {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "sun"}
    await gateway.client.responses.create(model=MODEL, input=[result], conversation={"id": conversation}, tools=[WEATHER])
    assert contains(list(engine.submits[0].prompt), "Hello")
    for text in ("Hello", "Hi", "Look.", "sun"):
        assert contains(list(engine.submits[1].prompt), text)
    kinds = [item.type async for item in gateway.client.conversations.items.list(conversation, order="asc")]
    assert kinds == ["message", "message", "reasoning", "function_call", "function_call_output", "message"]


async def test_what_fails_or_is_not_stored_adds_nothing(start: Any) -> None:
    engine = ScriptedEngine(answer("Hello")[:4], None, answer("Hello")[4:])
    gateway = await start(engine)
    conversation = (await gateway.client.conversations.create()).id
    async with await gateway.client.responses.create(**ASK, conversation=conversation, stream=True) as events:
        await anext(aiter(events))
    await asyncio.wait_for(engine.left.wait(), 5)
    engine.script = (answer("Hello")[:4], EngineError(grpc.StatusCode.INTERNAL, "broken"))
    events = [event async for event in await gateway.client.responses.create(**ASK, conversation=conversation, stream=True)]
    assert events[-1].type == "response.failed"
    assert [item async for item in gateway.client.conversations.items.list(conversation)] == []


async def test_what_two_responses_add_at_once_is_kept_of_both(start: Any) -> None:
    """An item that both bring is the conversation's once, and neither is lost."""
    engine = ScriptedEngine(None, answer("Hello"))
    gateway = await start(engine)
    conversation = (await gateway.client.conversations.create()).id
    asked: Any = {"model": MODEL, "input": [{**NOTE, "id": "msg_mine"}], "conversation": conversation}
    making = [asyncio.create_task(gateway.client.responses.create(**asked)) for _ in range(2)]
    await eventually(lambda: engine.running == 2)
    engine.go.set()
    made = await asyncio.gather(*making)
    assert {response.status for response in made} == {"completed"}
    listed = [item.id async for item in gateway.client.conversations.items.list(conversation, order="asc")]
    assert listed[0] == "msg_mine"
    assert set(listed) == {"msg_mine", *(item.id for response in made for item in response.output)}
    for response in made:
        assert (await gateway.client.responses.retrieve(response.id)).output == response.output


async def test_items_of_one_id_are_refused(start: Any) -> None:
    gateway = await start(ScriptedEngine(answer("x")))
    item: Any = {**NOTE, "id": "msg_mine"}
    conversation = (await gateway.client.conversations.create(items=[item])).id
    with pytest.raises(openai.BadRequestError, match="one id"):
        await gateway.client.conversations.items.create(conversation, items=[item])
    for asked in ({"input": [item], "conversation": conversation}, {"input": [item, item]}):
        refused = await gateway.http.post("/v1/responses", json={**ASK, **asked})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value")
