"""Every mistake is a 4xx in OpenAI's shape, with type, param and code; every trouble of the engine has its status."""

import asyncio
import threading
from typing import Any

import grpc
import openai
import pytest

from ossia.v1 import engine_pb2
from router.engine import EngineError
from router.gateway import api, conversation
from router.gateway.settings import Settings
from tests.fakes.scripted import CONTEXT, MODEL, ScriptedEngine, answer
from tests.router.gateway.conftest import eventually

USER = {"role": "user", "content": "Hi"}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}
TOOL = {"type": "function", "function": {"name": "f"}}
HALF_A_CALL = {"role": "assistant", "tool_calls": [{"id": "a"}]}
CHAT: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": [{"role": "user", "content": ""}] * 8193}, "messages", "invalid_value"),
    ({"tools": [{"type": "function", "function": {"name": f"f{n}"}} for n in range(257)]}, "tools", "invalid_value"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"title": "x" * (1 << 18)}}}]},
        "tools[0].function.parameters",
        "invalid_value",
    ),
    ({"messages": None}, "messages", "invalid_type"),
    ({"messages": "Hi"}, "messages", "invalid_type"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
    ({"messages": [USER, {"role": "user"}]}, "messages[1].content", "missing_required_parameter"),
    ({"messages": [{"role": "wizard" * 99, "content": "x"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
    ({"messages": [5]}, "messages[0]", "invalid_type"),
    ({"messages": [IMAGE]}, "messages[0].content[0].type", "unsupported_value"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0]", "invalid_value"),
    ({"messages": [USER, {"role": "tool", "content": "x", "tool_call_id": "no"}]}, "messages[1].tool_call_id", "invalid_value"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
        "messages[0].tool_calls[0].function",
        "missing_required_parameter",
    ),
    ({"temperature": 2.5}, "temperature", "invalid_value"),
    ({"temperature": -1}, "temperature", "invalid_value"),
    ({"temperature": "0"}, "temperature", "invalid_type"),
    ({"temperature": True}, "temperature", "invalid_type"),
    ({"top_p": 0}, "top_p", "invalid_value"),
    ({"top_p": 1.1}, "top_p", "invalid_value"),
    ({"top_k": -2}, "top_k", "invalid_value"),
    ({"seed": 1 << 63}, "seed", "invalid_value"),
    ({"seed": 1 << 70}, "seed", "invalid_value"),
    ({"seed": 1.5}, "seed", "invalid_type"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"max_completion_tokens": 1 << 32}, "max_completion_tokens", "invalid_value"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
    ({"stop": ""}, "stop", "invalid_value"),
    ({"stop": ["x", "x" * 257]}, "stop", "invalid_value"),
    ({"stop": [5]}, "stop[0]", "invalid_type"),
    ({"stop": 5}, "stop", "invalid_type"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ({"reasoning_effort": "utmost"}, "reasoning_effort", "invalid_value"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_value"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ({"tool_choice": "sometimes"}, "tool_choice", "invalid_value"),
    ({"tool_choice": 5}, "tool_choice", "invalid_type"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.function", "missing_required_parameter"),
    ({"tool_choice": {"type": "custom", "function": {"name": "x"}}}, "tool_choice.type", "unsupported_value"),
    ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice.function.name", "invalid_value"),
    ({"tools": [TOOL, TOOL]}, "tools[1].function.name", "invalid_value"),
    ({"n": 0}, "n", "invalid_value"),
    ({"n": 129}, "n", "invalid_value"),
    ({"n": True}, "n", "invalid_type"),
    ({"n": 2, "max_tokens": 1 << 20}, "max_tokens", "invalid_value"),
    ({"n": 2, "max_tokens": 1, "max_completion_tokens": 1 << 20}, "max_completion_tokens", "invalid_value"),
    ({"logprobs": 3}, "logprobs", "invalid_type"),
    ({"top_logprobs": 3}, "top_logprobs", "invalid_value"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"thinking_token_budget": -1}, "thinking_token_budget", "invalid_value"),
    ({"audio": {"voice": "x"}}, "audio", "unsupported_value"),
    ({"prediction": {"type": "content"}}, "prediction", "unsupported_value"),
    ({"temprature": 1}, "temprature", "unknown_parameter"),
    ({"prompt": "x"}, "prompt", "unknown_parameter"),
    ({"model": 5}, "model", "invalid_type"),
]
SHARED: list[tuple[dict[str, Any], str, str]] = [
    ({"min_p": 1.5}, "min_p", "invalid_value"),
    ({"presence_penalty": 2.5}, "presence_penalty", "invalid_value"),
    ({"frequency_penalty": -2.5}, "frequency_penalty", "invalid_value"),
    ({"repetition_penalty": 0}, "repetition_penalty", "invalid_value"),
    ({"repetition_penalty": 2.1}, "repetition_penalty", "invalid_value"),
    ({"top_k": 201_089}, "top_k", "invalid_value"),
    ({"logit_bias": [5]}, "logit_bias", "invalid_type"),
    ({"logit_bias": {"the": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"05": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"-5": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"5": 100.5}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"5": "1"}}, "logit_bias", "invalid_type"),
    ({"logit_bias": {"201088": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {str(id_): 1 for id_ in range(1025)}}, "logit_bias", "invalid_value"),
    ({"stop_token_ids": [201_088]}, "stop_token_ids", "invalid_value"),
    ({"stop_token_ids": [-1]}, "stop_token_ids[0]", "invalid_value"),
    ({"stop_token_ids": [1] * 129}, "stop_token_ids", "invalid_value"),
    ({"min_tokens": -1}, "min_tokens", "invalid_value"),
    ({"min_tokens": 6, "max_tokens": 5}, "min_tokens", "invalid_value"),
    ({"cache_salt": ""}, "cache_salt", "invalid_value"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        "response_format.json_schema.schema",
        "missing_required_parameter",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
        "response_format.json_schema.name",
        "invalid_value",
    ),
    ({"structured_outputs": {}}, "structured_outputs", "invalid_value"),
    ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs", "invalid_value"),
    ({"structured_outputs": {"regex": "", "choice": ["a"], "harmony": True}}, "structured_outputs", "invalid_value"),
    ({"structured_outputs": {"harmony": False}}, "structured_outputs.harmony", "invalid_value"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", "invalid_value"),
    ({"structured_outputs": {"choice": ["a", ""]}}, "structured_outputs.choice[1]", "invalid_value"),
    ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag", "unknown_parameter"),
    ({"structured_outputs": {"json_object": False}}, "structured_outputs.json_object", "invalid_value"),
    ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "structured_outputs", "invalid_value"),
    ({"structured_outputs": {"regex": "a"}, "ignore_eos": True}, "ignore_eos", "invalid_value"),
    ({"structured_outputs": {"harmony": True}, "ignore_eos": True}, "ignore_eos", "invalid_value"),
    ({"structured_outputs": {"regex": "a" * (1 << 20)}}, "structured_outputs.regex", "grammar_too_large"),
    ({"response_format": {"type": "text", "schema": {}}}, "response_format.schema", "unknown_parameter"),
    ({"response_format": {"type": "json_object", "schema": {}}}, "response_format.schema", "unknown_parameter"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}, "more": 1}},
        "response_format.more",
        "unknown_parameter",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "more": 1}}},
        "response_format.json_schema.more",
        "unknown_parameter",
    ),
    (
        {"stream": True, "stream_options": {"continuous_usage_stats": True}},
        "stream_options.continuous_usage_stats",
        "invalid_value",
    ),
    (
        {"stream": True, "stream_options": {"include_usage": True, "chunk_included_usage": True}},
        "stream_options.chunk_included_usage",
        "unknown_parameter",
    ),
]
COMPLETIONS: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": 5}, "prompt", "invalid_type"),
    ({"prompt": None}, "prompt", "invalid_type"),
    ({"prompt": [1, "a"]}, "prompt", "invalid_type"),
    ({"prompt": [[1], [True]]}, "prompt", "invalid_type"),
    ({"prompt": ""}, "prompt", "invalid_value"),
    ({"prompt": []}, "prompt", "invalid_value"),
    ({"prompt": [[]]}, "prompt", "invalid_value"),
    ({"prompt": ["a"] * 129}, "prompt", "invalid_value"),
    ({"prompt": [-1]}, "prompt", "invalid_value"),
    ({"prompt": [201_088]}, "prompt", "invalid_value"),
    ({"prompt": [1 << 80]}, "prompt", "invalid_value"),
    ({"prompt": [1] * CONTEXT}, "prompt", "context_length_exceeded"),
    ({"logprobs": 21}, "logprobs", "invalid_value"),
    ({"logprobs": True}, "logprobs", "invalid_type"),
    ({"echo": 1}, "echo", "invalid_type"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"best_of": 3}, "best_of", "unsupported_value"),
    ({"best_of": 1, "n": 2}, "best_of", "unsupported_value"),
    ({"suffix": "x"}, "suffix", "unsupported_value"),
    ({"prompt": ["a"] * 65, "n": 2}, "n", "invalid_value"),
    ({"thinking_token_budget": 5}, "thinking_token_budget", "invalid_value"),
    ({"thinking_token_budget": 5, "structured_outputs": {"regex": "a"}}, "thinking_token_budget", "invalid_value"),
    ({"thinking_token_budget": -1, "structured_outputs": {"harmony": True}}, "thinking_token_budget", "invalid_value"),
    ({"tools": []}, "tools", "unknown_parameter"),
    ({"messages": [USER]}, "messages", "unknown_parameter"),
]


async def refused(gateway: Any, path: str, body: Any) -> tuple[Any, ...]:
    response = await gateway.http.post(path, json=body)
    error = response.json()["error"]
    assert 0 < len(error["message"]) < 400
    return response.status_code, error["type"], error["param"], error["code"]


async def test_every_mistake_in_chat_names_its_parameter(start: Any) -> None:
    gateway = await start(ScriptedEngine(answer("x")))
    for change, param, code in [*CHAT, *SHARED]:
        got = await refused(gateway, "/v1/chat/completions", {"model": MODEL, "messages": [USER], **change})
        assert got == (400, "invalid_request_error", param, code), change


async def test_every_mistake_in_completions_names_its_parameter(start: Any) -> None:
    gateway = await start(ScriptedEngine(answer("x")))
    for change, param, code in [*COMPLETIONS, *SHARED]:
        got = await refused(gateway, "/v1/completions", {"model": MODEL, "prompt": "x", **change})
        assert got == (400, "invalid_request_error", param, code), change


async def test_schemas_hold_numbers_that_json_has(start: Any) -> None:
    gateway = await start(ScriptedEngine(answer("x")))
    for place, param in [
        (
            '"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":@}}',
            "response_format.json_schema.schema",
        ),
        ('"structured_outputs":{"json":@}', "structured_outputs.json"),
        ('"tools":[{"type":"function","function":{"name":"x","strict":true,"parameters":@}}]', "tools[0].function.parameters"),
    ]:
        body = f'{{"model":"{MODEL}","messages":[{{"role":"user","content":"x"}}],{place}}}'.replace("@", '{"minimum":1e999}')
        error = (await gateway.http.post("/v1/chat/completions", content=body.encode())).json()["error"]
        assert (error["param"], error["code"]) == (param, "invalid_value")


async def test_what_is_no_request_at_all(start: Any) -> None:
    gateway = await start(ScriptedEngine(answer("x")), Settings(max_body_bytes=1000))
    cases = [
        (b"{", 400, "invalid_json"),
        (b"", 400, "invalid_json"),
        (b"\xff", 400, "invalid_json"),
        (b'{"model": "\\ud800"}', 400, "invalid_json"),
        (b'{"temperature": NaN}', 400, "invalid_json"),
        (b"[" * 900, 400, "invalid_json"),
        (b"[]", 400, "invalid_type"),
        (b" " * 1001, 413, "request_too_large"),
    ]
    for body, status, code in cases:
        response = await gateway.http.post("/v1/chat/completions", content=body)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code), body


async def test_unknown_paths_and_methods(start: Any) -> None:
    gateway = await start(ScriptedEngine())
    for method, path, status, code in [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("POST", "/v1/chat/completions/", 404, "unknown_url"),
        ("PUT", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
    ]:
        response = await gateway.http.request(method, path)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code), path
        assert response.headers["x-request-id"].startswith("req_")
    assert response.headers["allow"]
    await eventually(lambda: gateway.metric("ossia_gateway_requests_total", route="/v1/models", status="405") == 1)


async def test_the_clients_own_exceptions(start: Any) -> None:
    engine = ScriptedEngine(answer("x"))
    gateway = await start(engine)
    messages: Any = [USER]
    with pytest.raises(openai.NotFoundError) as unknown:
        await gateway.client.chat.completions.create(model="gpt-9", messages=messages)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as long:
        await gateway.client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * CONTEXT}])
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "messages")
    assert str(CONTEXT) in long.value.message
    assert not engine.submits


ENGINE = [
    (EngineError(grpc.StatusCode.INVALID_ARGUMENT, "bad", reason="X_Y", field="sampling.top_p"), 400, "x_y", "top_p"),
    (
        EngineError(grpc.StatusCode.INVALID_ARGUMENT, "bad", field="sampling.max_tokens"),
        400,
        "invalid_value",
        "max_completion_tokens",
    ),
    (EngineError(grpc.StatusCode.INVALID_ARGUMENT, "bad", field="prompt"), 400, "invalid_value", "messages"),
    (EngineError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_after_s=2.2), 429, "rate_limit_exceeded", None),
    (EngineError(grpc.StatusCode.UNAVAILABLE, "none left", reason="NO_REPLICA"), 503, "no_replica", None),
    (EngineError(grpc.StatusCode.DEADLINE_EXCEEDED, "late"), 504, "deadline_exceeded", None),
    (EngineError(grpc.StatusCode.UNKNOWN, "secret internals"), 500, "internal_error", None),
    (EngineError(grpc.StatusCode.UNAUTHENTICATED, "secret internals"), 500, "internal_error", None),
]


@pytest.mark.parametrize(("error", "status", "code", "param"), ENGINE)
@pytest.mark.parametrize("stream", [True, False])
async def test_engine_errors_known_in_time_are_statuses(
    start: Any,
    caplog: pytest.LogCaptureFixture,
    error: EngineError,
    status: int,
    code: str,
    param: str | None,
    stream: bool,
) -> None:
    gateway = await start(ScriptedEngine(error))
    with pytest.raises(openai.APIStatusError) as raised:
        messages: Any = [USER]
        await gateway.client.chat.completions.create(model=MODEL, messages=messages, stream=stream, max_completion_tokens=9)
    assert (raised.value.status_code, raised.value.code, raised.value.param) == (status, code, param)
    assert "secret" not in raised.value.message
    assert ("secret internals" in caplog.text) == (status == 500), "the log tells more"
    retry = raised.value.response.headers.get("retry-after")
    assert retry == {429: "3", 503: "1"}.get(status)


async def test_no_engine_is_503_everywhere(start: Any) -> None:
    engine = ScriptedEngine()
    engine.card = EngineError(grpc.StatusCode.UNAVAILABLE, "no replica has answered yet")
    gateway = await start(engine)
    for method, path in (("GET", "/v1/models"), ("GET", "/v1/models/tiny"), ("POST", "/v1/chat/completions")):
        body = {"model": MODEL, "messages": [USER]} if method == "POST" else None
        response = await gateway.http.request(method, path, json=body)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    ready = await gateway.http.get("/ready")
    assert (ready.status_code, ready.json()["reason"]) == (503, "no replica has answered yet")
    assert (await gateway.http.get("/health")).status_code == 200


@pytest.mark.parametrize(
    ("path", "module", "work"), [("chat/completions", conversation, "_rendered"), ("completions", api, "_tokens")]
)
async def test_a_long_prompt_holds_up_nobody_else(
    start: Any, monkeypatch: pytest.MonkeyPatch, path: str, module: Any, work: str
) -> None:
    gateway = await start(ScriptedEngine(answer("x")))
    begun, go = threading.Event(), threading.Event()
    encode = getattr(module, work)

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert go.wait(10)
        return encode(*arguments)

    monkeypatch.setattr(module, work, slow)
    text = "word " * (CONTEXT + 20_000)
    body = {"model": MODEL, **({"messages": [{**USER, "content": text}]} if "chat" in path else {"prompt": text})}
    asking = asyncio.create_task(gateway.http.post(f"/v1/{path}", json=body))
    await eventually(begun.is_set)
    assert (await gateway.http.get("/health")).status_code == 200
    go.set()
    assert (await asking).json()["error"]["code"] == "context_length_exceeded"


class Broken(ScriptedEngine):
    """Fails in a way that nobody foresaw."""

    async def describe(self) -> engine_pb2.DescribeResponse:
        raise ZeroDivisionError("secret")


async def test_our_own_bugs_are_500_without_internals(start: Any) -> None:
    gateway = await start(Broken())
    response = await gateway.http.post("/v1/chat/completions", json={"model": MODEL, "messages": [USER]})
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert response.headers["x-request-id"]
