"""Whatever a model emits or a client sends: no 5xx, valid JSON, and the same answer however tokens are grouped."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from prometheus_client import CollectorRegistry
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from ossia.common.vocabulary import CALL, CHANNEL, CONSTRAIN, END, MESSAGE, RETURN, START, decode, encode
from router.gateway.anthropic.schema import MessagesBody
from router.gateway.app import create_app
from router.gateway.schema_chat import ChatBody
from router.gateway.schema_completions import CompletionBody
from router.tools.tools import Tools
from tests.fakes.scripted import FINISH, MODEL, ScriptedEngine, pairs
from tests.router.gateway.anthropic.test_messages import complete
from tests.router.gateway.responses import order, strict
from tests.router.gateway.responses.conftest import FakeServer
from tests.router.harmony.test_parse import mutations

WORDS = [
    "analysis",
    "final",
    "commentary",
    " to=functions.weather",
    " to=a b",
    "json",
    "assistant",
    '{"a":',
    "STOP",
    "ST",
    "👋",
    " ",
]
SPECIAL = [CALL, CHANNEL, CONSTRAIN, END, MESSAGE, RETURN, START, 199_999, 200_018, 201_087]
TOKENS = st.lists(
    st.one_of(
        st.sampled_from(SPECIAL), st.sampled_from([token for word in WORDS for token in encode(word)]), st.integers(0, 201_087)
    ),
    max_size=40,
)
PREFIXES = mutations().map(lambda stream: [token for token in stream if token >= 0])
"""Of mutations of valid turns: half of them are cut."""
WITH_TOOLS = st.sampled_from([True, True, True, False])
EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
THINK = {"thinking": {"type": "adaptive"}}
MESSAGES = [{"role": "user", "content": "x"}]
ENDS = st.sampled_from([FINISH.FINISH_REASON_STOP, FINISH.FINISH_REASON_LENGTH])


def names(tokens: list[int]) -> list[str]:
    """Those of the functions that a stream may mean, so that there are some that it can call."""
    return sorted({"weather", *re.findall(r"functions\.([a-zA-Z0-9_-]{1,64})", decode(tokens))})


class Served:
    """A gateway whose engine says what it is told to."""

    def __init__(self, engine: ScriptedEngine, client: TestClient) -> None:
        self._engine = engine
        self._client = client

    def whole(self, tokens: list[int], end: Any, path: str, body: dict[str, Any]) -> Any:
        return self._post([tokens], end, path, body).json()

    def events(self, tokens: list[int], size: int, end: Any, path: str, body: dict[str, Any]) -> list[Any]:
        """What follows `data: ` in a stream of deltas of that size."""
        lines = self._post(pairs(tokens, size), end, path, {**body, "stream": True}).text.split("\n")
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        if path != "/v1/messages":
            assert data.pop() == "[DONE]"
        return [json.loads(each) for each in data]

    def _post(self, script: list[list[int]], end: Any, path: str, body: dict[str, Any]) -> Any:
        self._engine.script, self._engine.finish = tuple(script), end
        response = self._client.post(path, json=body)
        assert response.status_code == 200, response.text
        return response


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    engine = ScriptedEngine()
    tools = Tools([FakeServer("python", "python"), FakeServer("browser", "search", "open", "find"), FakeServer("wiki", "read")])
    with TestClient(create_app(engine, registry=CollectorRegistry(), tools=tools)) as client:
        yield Served(engine, client)


STOPS = st.sampled_from([None, "STOP", ["a", " b"]])
LISTED_STOPS = st.sampled_from([None, ["STOP"], ["a", " b"]])


@settings(max_examples=120, deadline=None)
@given(tokens=TOKENS | PREFIXES, size=st.integers(1, 7), tools=WITH_TOOLS, stop=STOPS, end=ENDS)
def test_chat(served: Served, tokens: list[int], size: int, tools: bool, stop: Any, end: Any) -> None:
    offered = [{"type": "function", "function": {"name": name}} for name in names(tokens)] if tools else None
    body = {"model": MODEL, "messages": MESSAGES, "tools": offered, "stop": stop}
    whole = served.whole(tokens, end, "/v1/chat/completions", body)
    streamed = served.events(tokens, size, end, "/v1/chat/completions", body)
    ChatCompletion.model_validate(whole, strict=True)
    for event in streamed:
        ChatCompletionChunk.model_validate(event, strict=True)
    message = whole["choices"][0]["message"]
    deltas = [event["choices"][0]["delta"] for event in streamed]
    calls: list[dict[str, str]] = []
    for part in (part for delta in deltas for part in delta.get("tool_calls", [])):
        if "id" in part:
            calls.append({"name": part["function"]["name"], "arguments": ""})
        calls[part["index"]]["arguments"] += part["function"]["arguments"]
    assert [call["function"] for call in message.get("tool_calls", [])] == calls
    assert "".join(delta.get("content", "") for delta in deltas) == (message["content"] or "")
    assert "".join(delta.get("reasoning", "") for delta in deltas) == (message["reasoning"] or "")
    assert message["content"] is not None or calls
    assert streamed[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert tools or not calls
    if whole["choices"][0]["finish_reason"] != "stop" or stop is None:
        assert whole["usage"]["completion_tokens"] == len(tokens)


@settings(max_examples=60, deadline=None)
@given(tokens=TOKENS | PREFIXES, size=st.integers(1, 7), stop=STOPS, end=ENDS)
def test_completions(served: Served, tokens: list[int], size: int, stop: Any, end: Any) -> None:
    body = {"model": MODEL, "prompt": "x", "stop": stop, "logprobs": 2, "return_token_ids": True}
    answered = served.whole(tokens, end, "/v1/completions", body)
    streamed = served.events(tokens, size, end, "/v1/completions", body)
    Completion.model_validate(answered, strict=True)
    for event in streamed:
        ends = [{**choice, "finish_reason": choice["finish_reason"] or "stop"} for choice in event["choices"]]
        Completion.model_validate({**event, "choices": ends}, strict=True)  # which has no word for what goes on
    (whole,) = answered["choices"]
    pieces = [event["choices"][0] for event in streamed]
    assert "".join(piece["text"] for piece in pieces) == whole["text"]
    assert sum((piece["token_ids"] for piece in pieces), []) == whole["token_ids"] == tokens[: len(whole["token_ids"])]
    for key, values in whole["logprobs"].items():
        assert sum((piece["logprobs"][key] for piece in pieces), []) == values
        assert len(values) == len(whole["token_ids"])
    assert pieces[-1]["finish_reason"] == whole["finish_reason"]


@settings(max_examples=60, deadline=None)
@given(tokens=TOKENS | PREFIXES, size=st.integers(1, 7), tools=WITH_TOOLS, stop=LISTED_STOPS, end=ENDS)
def test_messages(served: Served, tokens: list[int], size: int, tools: bool, stop: Any, end: Any) -> None:
    offered = [{"name": name, "input_schema": {}} for name in names(tokens)] if tools else None
    body = {"model": MODEL, "max_tokens": 999, "messages": MESSAGES, "tools": offered, "stop_sequences": stop, **THINK}
    whole = served.whole(tokens, end, "/v1/messages", body)
    streamed = served.events(tokens, size, end, "/v1/messages", body)
    complete(Message.model_validate(whole, strict=True))
    for event in streamed:
        complete(EVENTS.validate_python(event, strict=True))
    _check_order(streamed)
    blocks = [event["content_block"] for event in streamed if event["type"] == "content_block_start"]
    said = ["" for _ in blocks]
    for event in streamed:
        if event["type"] == "content_block_delta":
            kind, text = event["delta"].popitem()
            said[event["index"]] += text if kind != "signature" else ""
    assert [block["type"] for block in blocks] == [block["type"] for block in whole["content"]]
    for block, text in zip(whole["content"], said, strict=True):
        assert block["type"] == "tool_use" or block[block["type"]] == text
        assert block["type"] != "tool_use" or isinstance(block["input"], dict)
    ending = streamed[-2]
    assert (ending["type"], ending["delta"]["stop_reason"]) == ("message_delta", whole["stop_reason"])
    assert ending["usage"] == whole["usage"]
    assert streamed[-1] == {"type": "message_stop"}


def _check_order(events: list[Any]) -> None:
    """Blocks come one after the other, each whole before the next."""
    assert [events[0]["type"], *(event["type"] for event in events[-2:])] == ["message_start", "message_delta", "message_stop"]
    open_, count = False, 0
    for event in events[1:-2]:
        kind = event["type"].removeprefix("content_block_")
        assert open_ == (kind != "start")
        assert event["index"] == count
        open_, count = kind != "stop", count + (kind == "stop")
    assert not open_


def _offered(tokens: list[int]) -> list[Any]:
    """Functions, custom tools, and those that the gateway calls."""
    called = names(tokens)
    functions = [{"type": "function", "name": name} for name in called[::2]]
    customs = [{"type": "custom", "name": name} for name in called[1::2]]
    mcp = {"type": "mcp", "server_label": "wiki", "require_approval": "never"}
    return [*functions, *customs, mcp, {"type": "web_search"}, {"type": "code_interpreter", "container": {"type": "auto"}}]


def _nameless(response: Any) -> str:
    """What two responses to the same request have in common."""
    text = json.dumps({**response, "created_at": 0, "completed_at": response["completed_at"] and 0})
    return re.sub(r"call_[0-9a-f]{32}", "call", text.replace(response["id"].removeprefix("resp_"), ""))


@settings(max_examples=150, deadline=None)
@given(tokens=TOKENS | PREFIXES, size=st.integers(1, 7), tools=WITH_TOOLS, stop=STOPS, end=ENDS, likely=st.booleans())
def test_responses(served: Served, tokens: list[int], size: int, tools: bool, stop: Any, end: Any, likely: bool) -> None:
    body = {"model": MODEL, "input": "x", "tools": _offered(tokens) if tools else [], "stop": stop, "max_tool_calls": 2}
    body |= {"top_logprobs": 1} if likely else {}
    whole = served.whole(tokens, end, "/v1/responses", body)
    streamed = served.events(tokens, size, end, "/v1/responses", body)
    strict.response(whole)
    for event in streamed:
        strict.event(event)
    items = order.check(streamed)
    assert _nameless(streamed[-1]["response"]) == _nameless(whole)
    assert tools or {item["type"] for item in items} <= {"reasoning", "message"}
    assert whole["status"] == ("incomplete" if whole["incomplete_details"] else "completed")
    assert whole["usage"]["output_tokens"] >= whole["usage"]["output_tokens_details"]["reasoning_tokens"]
    if not likely:
        resent = {"model": MODEL, "input": [{"role": "user", "content": "x"}, *items], "tools": body["tools"]}
        served.whole([RETURN], FINISH.FINISH_REASON_STOP, "/v1/responses", resent)


KEYS = st.one_of(
    st.sampled_from(["role", "content", "type", "text", "name", "function", "arguments", "id", "tool_call_id", "tool_calls"]),
    st.text(max_size=3),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
CHAT_KEYS = st.sampled_from([*ChatBody.model_fields, *ChatBody.only, *ChatBody.harmless])
COMPLETION_KEYS = st.sampled_from([*CompletionBody.model_fields, *CompletionBody.only])
MESSAGES_KEYS = st.sampled_from([*MessagesBody.model_fields, *MessagesBody.only])
ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool"])
REST = st.dictionaries(KEYS, JSON, max_size=3)
ANY_MESSAGE = st.builds(lambda role, rest: {"role": role, "content": "x", **rest}, ROLES, REST)


def ask(path: str, body: Any) -> Any:
    with TestClient(create_app(ScriptedEngine([200_002]), registry=CollectorRegistry())) as client:
        response = client.post(path, content=json.dumps(body).encode())
    assert response.status_code in (200, 400, 404), response.text
    return response


def answered(path: str, body: Any) -> None:
    response = ask(path, body)
    if response.status_code != 200:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


@settings(max_examples=150, deadline=None)
@given(change=st.dictionaries(CHAT_KEYS, JSON, max_size=3), messages=st.lists(ANY_MESSAGE, min_size=1, max_size=3))
def test_chat_bodies(change: dict[str, Any], messages: list[Any]) -> None:
    answered("/v1/chat/completions", {"model": MODEL, "messages": messages, **change})


@settings(max_examples=100, deadline=None)
@given(change=st.dictionaries(COMPLETION_KEYS, JSON, max_size=3))
def test_completion_bodies(change: dict[str, Any]) -> None:
    answered("/v1/completions", {"model": MODEL, "prompt": "x", **change})


BLOCKS = st.sampled_from(["text", "thinking", "redacted_thinking", "tool_use", "tool_result", "image"])
FIELDS = st.sampled_from(["text", "thinking", "data", "id", "name", "input", "tool_use_id", "content", "is_error"])
BLOCK = st.builds(lambda kind, rest: {"type": kind, **rest}, BLOCKS, st.dictionaries(FIELDS, st.just("x") | JSON, max_size=4))
ANY_BLOCKS = st.builds(lambda role, blocks: {"role": role, "content": blocks}, ROLES, st.lists(BLOCK, max_size=3))


@settings(max_examples=150, deadline=None)
@given(change=st.dictionaries(MESSAGES_KEYS, JSON, max_size=3), messages=st.lists(ANY_BLOCKS, max_size=3))
def test_messages_bodies(change: dict[str, Any], messages: list[Any]) -> None:
    body = {"model": MODEL, "max_tokens": 9, "messages": [*messages, *MESSAGES], **change}
    response = ask("/v1/messages", body)
    assert response.status_code == 200 or set(response.json()) == {"type", "error"}


@settings(max_examples=30, deadline=None)
@given(parameters=st.dictionaries(st.text(max_size=9) | st.sampled_from(["type", "properties", "enum", "items", "$ref"]), JSON))
def test_tool_schemas(parameters: dict[str, Any]) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    answered("/v1/chat/completions", {"model": MODEL, "messages": MESSAGES, "tools": tools})
