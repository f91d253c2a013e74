"""Reasoning of a tool loop, put back where clients of the Chat API cannot send it: by the same gateway, or by another one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from router.gateway import thoughts as thoughts_
from router.gateway.thoughts import Thoughts
from router.harmony.types import Message, ToolCall
from router.store.reasoning import Reasoning
from router.store.store import Store
from tests.fakes.scripted import MODEL, ScriptedEngine, call
from tests.router.gateway.test_chat import ASK, TOOLS, contains

THOUGHT = "Weather is a matter of looking it up."
CALL_ID = "call_" + "0" * 32


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = Store(url)
    await store.open()
    yield store
    await store.close()


async def ask(gateway: Any, stream: bool, **more: Any) -> dict[str, Any]:
    """The assistant's message as a client keeps it that knows OpenAI's fields alone."""
    if not stream:
        whole = await gateway.client.chat.completions.create(**ASK, tools=TOOLS, **more)
        made = whole.choices[0].message.tool_calls[0]
        function = {"name": made.function.name, "arguments": made.function.arguments}
        return {"role": "assistant", "content": None, "tool_calls": [{"id": made.id, "type": "function", "function": function}]}
    async with gateway.client.chat.completions.stream(**ASK, tools=TOOLS, **more) as events:
        async for _ in events:
            pass
        message = (await events.get_final_completion()).choices[0].message
    kept: dict[str, Any] = message.model_dump(include={"role", "content", "tool_calls"})
    return kept


async def prompted(gateway: Any, engine: ScriptedEngine, message: dict[str, Any], *after: dict[str, Any]) -> list[int]:
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "sun"}
    messages = [*ASK["messages"], message, result, *after]
    await gateway.client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    return list(engine.submits[-1].prompt)


async def test_it_is_put_back_until_the_answer(start: Any) -> None:
    engine = ScriptedEngine(call("weather", "{}", THOUGHT))
    gateway = await start(engine)
    for stream in (False, True):
        message = await ask(gateway, stream, store=False)
        assert "reasoning" not in message
        assert contains(await prompted(gateway, engine, message), THOUGHT)
        assert not contains(await prompted(gateway, engine, {**message, "reasoning": "Mine."}), THOUGHT)
        done = {"role": "assistant", "content": "Sunny."}
        assert not contains(await prompted(gateway, engine, message, done, *ASK["messages"]), THOUGHT)
        message["tool_calls"][0]["id"] = CALL_ID
        assert not contains(await prompted(gateway, engine, message), THOUGHT)


async def test_it_is_put_back_into_responses_as_well(start: Any) -> None:
    engine = ScriptedEngine(call("weather", "{}", THOUGHT))
    gateway = await start(engine)
    tools = [{"type": "function", "name": "weather"}]
    hello = {"role": "user", "content": "Hi"}

    async def prompted_with(*items: Any) -> list[int]:
        await gateway.client.responses.create(model=MODEL, input=[hello, *items], tools=tools)
        return list(engine.submits[-1].prompt)

    for more in ({"store": False}, {"background": True}):
        made = await gateway.client.responses.create(model=MODEL, input=[hello], tools=tools, **more)
        if more.get("background"):
            *_, last = [event async for event in await gateway.client.responses.retrieve(made.id, stream=True)]
            made = last.response
        thought, called = (item.model_dump(exclude_none=True) for item in made.output)
        result = {"type": "function_call_output", "call_id": called["call_id"], "output": "sun"}
        with_own = await prompted_with(thought, called, result)
        assert contains(with_own, THOUGHT)
        assert await prompted_with(called, result) == with_own
        mine = {**thought, "content": [{"type": "reasoning_text", "text": "Mine."}]}
        assert not contains(await prompted_with(mine, called, result), THOUGHT)
        assert not contains(await prompted_with(called, result, {"role": "assistant", "content": "Sunny."}, hello), THOUGHT)
        chat = {
            "role": "assistant",
            "tool_calls": [{"id": called["call_id"], "function": {"name": "weather", "arguments": "{}"}}],
        }
        assert contains(await prompted(gateway, engine, chat), THOUGHT)


async def test_another_gateway_knows_it_unless_it_is_not_to_be_stored(start: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/db"
    engine = ScriptedEngine(call("weather", "{}", THOUGHT))
    async with opened(url) as first, opened(url) as second:
        one, other = await start(engine, store=first), await start(engine, store=second)
        for store, known in [(None, True), (True, True), (False, False)]:
            message = await ask(one, stream=False, store=store)
            assert contains(await prompted(other, engine, message), THOUGHT) == known
            assert contains(await prompted(one, engine, message), THOUGHT)
            tools: Any = [{"type": "function", "name": "weather"}]
            made = await one.client.responses.create(model=MODEL, input="Hi", tools=tools, store=store)
            message["tool_calls"][0]["id"] = made.output[-1].call_id
            assert contains(await prompted(other, engine, message), THOUGHT) == known


async def test_a_tenant_does_not_see_what_another_ones_model_thought() -> None:
    thoughts = Thoughts()
    asked = [Message("user", "q"), Message("assistant", "", tool_calls=(ToolCall(CALL_ID, "f", "{}"),))]
    await thoughts.keep("one", [CALL_ID], THOUGHT, stored=True)
    assert (await thoughts.recall("one", asked))[1].reasoning == THOUGHT
    assert await thoughts.recall("other", asked) == asked


async def test_a_database_that_fails_costs_no_answer(tmp_path: Path, caplog: Any) -> None:
    nowhere = Store(f"sqlite:///{tmp_path}/missing/db")
    thoughts = Thoughts(store=nowhere.reasoning)
    asked = [Message("assistant", "", tool_calls=(ToolCall(CALL_ID, "f", "{}"),))]
    assert await thoughts.recall("one", asked) == asked
    await thoughts.keep("one", [CALL_ID], THOUGHT, stored=True)
    assert len(caplog.records) == 2
    assert (await thoughts.recall("one", asked))[0].reasoning == THOUGHT


async def test_nor_does_one_that_never_answers(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    class Stuck:
        async def put(self, *_: Any) -> None:
            await asyncio.Event().wait()

        async def get(self, *_: Any) -> dict[str, str]:
            await asyncio.Event().wait()
            return {}

    monkeypatch.setattr(thoughts_, "PATIENCE_S", 0.05)
    thoughts = Thoughts(store=cast(Reasoning, Stuck()))
    asked = [Message("assistant", "", tool_calls=(ToolCall(CALL_ID, "f", "{}"),))]
    async with asyncio.timeout(10):
        assert await thoughts.recall("one", asked) == asked
        await thoughts.keep("one", [CALL_ID], THOUGHT, stored=True)
    assert len(caplog.records) == 2
    assert (await thoughts.recall("one", asked))[0].reasoning == THOUGHT
