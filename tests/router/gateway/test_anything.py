"""Whatever a model emits: no 5xx, valid JSON, and the same answer however its tokens are grouped."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from router.gateway.app import create_app
from router.harmony.vocabulary import CALL, CHANNEL, CONSTRAIN, END, MESSAGE, RETURN, START, encode
from tests.fakes.scripted import FINISH, MODEL, ScriptedEngine, pairs

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
TOOLS = [{"type": "function", "function": {"name": "weather"}}]
MESSAGES = [{"role": "user", "content": "x"}]
ENDS = st.sampled_from([FINISH.FINISH_REASON_STOP, FINISH.FINISH_REASON_LENGTH])


def post(engine: ScriptedEngine, path: str, body: dict[str, Any]) -> Any:
    client = TestClient(create_app(engine, registry=CollectorRegistry()))
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response


def events(response: Any) -> list[Any]:
    lines = [line for line in response.text.split("\n") if line]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@settings(max_examples=60, deadline=None)
@given(tokens=TOKENS, size=st.integers(1, 7), tools=st.booleans(), stop=st.sampled_from([None, "STOP", ["a", " b"]]), end=ENDS)
def test_chat(tokens: list[int], size: int, tools: bool, stop: Any, end: Any) -> None:
    body = {"model": MODEL, "messages": MESSAGES, "tools": TOOLS if tools else None, "stop": stop}
    whole = post(ScriptedEngine(tokens, finish=end), "/v1/chat/completions", body).json()
    streamed = events(post(ScriptedEngine(*pairs(tokens, size), finish=end), "/v1/chat/completions", {**body, "stream": True}))
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
@given(tokens=TOKENS, size=st.integers(1, 7), stop=st.sampled_from([None, "STOP", ["a", " b"]]), end=ENDS)
def test_completions(tokens: list[int], size: int, stop: Any, end: Any) -> None:
    body = {"model": MODEL, "prompt": "x", "stop": stop, "logprobs": 2, "return_token_ids": True}
    whole = post(ScriptedEngine(tokens, finish=end), "/v1/completions", body).json()["choices"][0]
    streamed = events(post(ScriptedEngine(*pairs(tokens, size), finish=end), "/v1/completions", {**body, "stream": True}))
    pieces = [event["choices"][0] for event in streamed]
    assert "".join(piece["text"] for piece in pieces) == whole["text"]
    assert sum((piece["token_ids"] for piece in pieces), []) == whole["token_ids"] == tokens[: len(whole["token_ids"])]
    for key, values in whole["logprobs"].items():
        assert sum((piece["logprobs"][key] for piece in pieces), []) == values
        assert len(values) == len(whole["token_ids"])
    assert pieces[-1]["finish_reason"] == whole["finish_reason"]
