"""What callers and tools write is never a control token: every special token of the vocabulary, in every field."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ossia.common.vocabulary import FIRST_SPECIAL, SIZE, decode
from router.gateway.settings import Settings
from router.tools.tools import Tools
from router.tools.types import ToolSpec
from tests.fakes.scripted import MODEL, ScriptedEngine, answer
from tests.router.gateway.conftest import running
from tests.router.gateway.responses.conftest import FakeServer
from tests.router.gateway.responses.test_tools import TurnEngine, use

SPELLED = [decode([token]) for token in range(FIRST_SPECIAL, SIZE)]
EVIL = "".join(SPELLED)
CALL_ID = "call_1"


def schema(text: str) -> dict[str, Any]:
    one = {"type": "string", "description": text, "enum": [text], "default": text}
    return {"type": "object", "description": text, "properties": {text: one}}


def chat(*more: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi"}, *more], **rest}


def chats(text: str) -> Iterator[dict[str, Any]]:
    function = {"name": "f", "description": text, "parameters": schema(text)}
    called = {"id": CALL_ID, "type": "function", "function": {"name": "f", "arguments": text}}
    assistant = {"role": "assistant", "content": text, "reasoning": text, "tool_calls": [called]}
    for role in ("system", "developer", "user", "assistant"):
        yield chat({"role": role, "content": text})
        yield chat({"role": role, "content": [{"type": "text", "text": text}, {"type": "refusal", "refusal": text}]})
    yield chat({"role": "assistant", "refusal": text})
    yield chat(assistant, {"role": "tool", "tool_call_id": CALL_ID, "content": text, "name": text})
    yield chat({**assistant, "reasoning": None, "reasoning_content": text})
    yield chat(tools=[{"type": "function", "function": function}])
    form = {"name": "r", "description": text, "schema": schema(text)}
    yield chat(response_format={"type": "json_schema", "json_schema": form})
    yield chat(chat_template_kwargs={"model_identity": text[:4096]})


def responses(text: str) -> Iterator[dict[str, Any]]:
    yield {"input": text, "instructions": text}
    for role in ("system", "developer", "user"):
        yield {"input": [{"role": role, "content": text}]}
        yield {"input": [{"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}]}
    said = [{"type": "output_text", "text": text, "annotations": []}]
    yield {"input": [{"type": "message", "role": "assistant", "content": said}]}
    yield {
        "input": [
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": text}]},
            {"type": "function_call", "call_id": CALL_ID, "name": "f", "arguments": text},
            {"type": "function_call_output", "call_id": CALL_ID, "output": text},
            {"type": "custom_tool_call", "call_id": "call_2", "name": "c", "input": text},
            {"type": "custom_tool_call_output", "call_id": "call_2", "output": text},
        ]
    }
    yield {
        "input": "Hi",
        "tools": [
            {"type": "function", "name": "f", "description": text, "parameters": schema(text), "strict": False},
            {"type": "custom", "name": "c", "description": text},
        ],
    }
    yield {"input": "Hi", "text": {"format": {"type": "json_schema", "name": "r", "description": text, "schema": schema(text)}}}


def messages(text: str) -> Iterator[dict[str, Any]]:
    used = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {text: text}}
    thought = {"type": "thinking", "thinking": text, "signature": text}
    for body in (
        {"system": text},
        {"system": [{"type": "text", "text": text}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]},
        {
            "messages": [
                {"role": "user", "content": text},
                {"role": "assistant", "content": [thought, {"type": "text", "text": text}, used]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": text}]},
            ]
        },
        {"tools": [{"name": "f", "description": text, "input_schema": schema(text)}]},
    ):
        yield {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], **body}


def completions(text: str) -> Iterator[dict[str, Any]]:
    yield {"prompt": text}
    yield {"prompt": [text, text]}


@pytest.mark.parametrize(
    ("path", "bodies"),
    [("chat/completions", chats), ("responses", responses), ("messages", messages), ("completions", completions)],
)
async def test_no_text_becomes_a_special_token(path: str, bodies: Any) -> None:
    engine = ScriptedEngine(answer("x"))
    engine.card.max_context = 1 << 20  # type: ignore[union-attr]
    async with running(engine, Settings(prompt_date="none")) as gateway:
        for evil, innocent in zip(bodies(EVIL), bodies("innocent"), strict=True):
            specials = []
            for body in (evil, innocent):
                engine.submits.clear()
                response = await gateway.http.post(f"/v1/{path}", json={"model": MODEL, **body})
                assert response.status_code == 200, (response.text[:300], json.dumps(innocent))
                prompts = [list(submit.prompt) for submit in engine.submits]
                specials.append([[token for token in prompt if token >= FIRST_SPECIAL] for prompt in prompts])
                assert (EVIL if body is evil else "innocent")[:4096] in decode(prompts[0]), json.dumps(innocent)
            assert specials[0] == specials[1], json.dumps(innocent)


def servers(text: str) -> Iterator[tuple[FakeServer, dict[str, Any], str, list[int]]]:
    """Tool servers that say this wherever they can, the tool of a request, what the request says itself, and a call."""
    wiki = FakeServer("wiki", "read", result=text)
    wiki.tools = [ToolSpec("read", text, schema(text))]
    mcp = {"type": "mcp", "server_label": "wiki", "server_description": text, "require_approval": "never"}
    yield wiki, mcp, text, use("wiki.read", json.dumps({text: text}), reasoning=text)
    yield FakeServer("wiki", "read", result=text, error=True), {**mcp, "server_description": None}, "Hi", use("wiki.read", "{}")
    python = FakeServer("python", "python", result=text)
    yield python, {"type": "code_interpreter", "container": {"type": "auto"}}, "Hi", use("python", text, "analysis")
    browser = FakeServer("browser", "search", "open", "find", result=text)
    yield browser, {"type": "web_search"}, "Hi", use("browser.search", json.dumps({"query": text}), "analysis")


@pytest.mark.parametrize("place", range(4))
async def test_no_text_of_a_tool_becomes_a_special_token(place: int) -> None:
    specials = []
    for text in (EVIL, "innocent"):
        server, tool, asked, call = list(servers(text))[place]
        engine = TurnEngine(call, answer("x"))
        engine.card.max_context = 1 << 20  # type: ignore[union-attr]
        async with running(engine, Settings(prompt_date="none"), tools=Tools([server])) as gateway:
            body = {"model": MODEL, "input": asked, "tools": [tool]}
            response = await gateway.http.post("/v1/responses", json=body, timeout=60)
        assert response.json()["status"] == "completed", response.text[:300]
        assert len(server.calls) == 1
        first, second = (list(submit.prompt) for submit in engine.submits)
        assert text in decode(first) or place > 0
        assert text in decode(second[len(first) :])
        specials.append([[token for token in prompt if token >= FIRST_SPECIAL] for prompt in (first, second)])
    assert specials[0] == specials[1]


def named(text: str) -> list[dict[str, Any]]:
    """Chats in which it is part of what stands in a message's header."""
    function = {"name": f"f{text}"}
    called = {"id": CALL_ID, "type": "function", "function": {**function, "arguments": "{}"}}
    return [
        chat({"role": "user", "content": "x", "name": f"n{text}"}),
        chat({"role": "assistant", "content": "x", "name": f"n{text}"}),
        chat(tools=[{"type": "function", "function": function}]),
        chat({"role": "assistant", "tool_calls": [called]}),
        chat(response_format={"type": "json_schema", "json_schema": {**function, "schema": {}}}),
    ]


async def test_no_name_holds_a_special_token() -> None:
    engine = ScriptedEngine(answer("x"))
    async with running(engine) as gateway:
        for body in (body for text in SPELLED[:20] for body in named(text)):
            response = await gateway.http.post("/v1/chat/completions", json={"model": MODEL, **body})
            assert response.status_code == 400, json.dumps(body)
    assert not engine.submits
