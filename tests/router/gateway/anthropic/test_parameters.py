"""Every parameter of Anthropic's Messages API is honoured, or told to be missing in a 400: none is ignored."""

from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
from anthropic.types import content_block_param, message_create_params

from router.gateway.anthropic.schema import MessagesBody
from tests.fakes.scripted import MODEL, ScriptedEngine, answer

ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL: dict[str, Any] = {"name": "weather", "input_schema": SCHEMA}
MARK = {"type": "ephemeral", "ttl": "1h"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
DATA = {"type": "base64", "media_type": "image/png", "data": "AA=="}
IMAGE = {"type": "image", "source": DATA}
HEADERS = {"user_profile_id", "workspace_id"}  # which the client sends them as


def test_every_one_is_known() -> None:
    theirs = message_create_params.MessageCreateParamsBase.__annotations__
    ours = {*MessagesBody.model_fields, *MessagesBody.only}
    assert set(theirs) - HEADERS <= ours


TAKEN = [
    {"cache_control": MARK},
    {"container": None, "diagnostics": None, "inference_geo": None, "mcp_servers": [], "speed": "standard"},
    {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": MARK}]}]},
    {"metadata": {"user_id": "somebody"}},
    {"output_config": {"effort": "xhigh", "format": {"type": "json_schema", "schema": SCHEMA}}},
    {"service_tier": "auto"},
    {"service_tier": "standard_only"},
    {"stop_sequences": ["END"], "temperature": 1.0, "top_p": 0.5, "top_k": 40},
    {"system": [{"type": "text", "text": "Be brief.", "cache_control": MARK}]},
    {"thinking": {"type": "adaptive", "display": "summarized"}},
    {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    {"tools": [{**TOOL, "type": "custom", "strict": True, "input_examples": [{"city": "Rome"}], "cache_control": MARK}]},
    {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
    {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": False}},
]


@pytest.mark.parametrize("change", TAKEN, ids=str)
async def test_taken(start: Callable, change: dict[str, Any]) -> None:
    gateway = await start(ScriptedEngine(answer('{"city":"Rome"}')))
    answered = await gateway.http.post("/v1/messages", json=ASK | change)
    assert answered.status_code == 200, answered.text


def said(block: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": [block]}, {"role": "user", "content": "So?"}]}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"cache_control": {"type": "ephemeral", "ttl": "2h"}}, "cache_control.ttl"),
    ({"container": "container_1"}, "container"),
    ({"container": {"skills": []}}, "container"),
    ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, "context_management.edits[0].type"),
    ({"diagnostics": {"previous_message_id": "msg_1"}}, "diagnostics"),
    ({"fallbacks": [{"model": "other"}]}, "fallbacks"),
    ({"inference_geo": "us"}, "inference_geo"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": None}, "max_tokens"),
    ({"mcp_servers": [{"type": "url", "name": "a", "url": "http://10.0.0.1/"}]}, "mcp_servers"),
    ({"metadata": {"team": "a"}}, "metadata.team"),
    ({"output_config": {"effort": "minimal"}}, "output_config.effort"),
    ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type"),
    ({"output_config": {"task_budget": {"type": "tokens", "total": 9}}}, "output_config.task_budget"),
    ({"output_format": {"type": "json_schema", "schema": SCHEMA}}, "output_format"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"speed": "fast"}, "speed"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "disabled", "budget_tokens": 5}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "adaptive", "display": "full"}}, "thinking.display"),
    ({"tools": [TOOL], "tool_choice": {"type": "none", "disable_parallel_tool_use": True}}, "tool_choice"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"tools": [{**TOOL, "allowed_callers": ["code_execution_20250825"]}]}, "tools[0].allowed_callers[0]"),
    ({"tools": [{**TOOL, "defer_loading": True}]}, "tools[0].defer_loading"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ({"top_k": -1}, "top_k"),
    ({"top_p": 0}, "top_p"),
    (said(IMAGE, "assistant"), "messages[0].content[0]"),
    (said({"type": "tool_result", "tool_use_id": "toolu_1", "content": [IMAGE]}), "messages[0].content[0].content[0]"),
    (said(USE), "messages[0].content[0]"),
    ({"system": [IMAGE]}, "system[0]"),
]


@pytest.mark.parametrize(("change", "at_fault"), REFUSED, ids=str)
async def test_refused(start: Callable, change: dict[str, Any], at_fault: str) -> None:
    engine = ScriptedEngine(answer("no"))
    gateway = await start(engine)
    refused = await gateway.http.post("/v1/messages", json=ASK | change)
    error = refused.json()["error"]
    assert (refused.status_code, error["type"]) == (400, "invalid_request_error")
    assert at_fault in error["message"] and not engine.submits


READ = {"text", "thinking", "redacted_thinking", "tool_use", "tool_result"}


async def test_blocks_of_other_types_are_told_to_be_unsupported(start: Callable) -> None:
    gateway = await start(ScriptedEngine(answer("no")))
    blocks = content_block_param.ContentBlockParam.__args__  # type: ignore[attr-defined]
    kinds = {get_type_hints(block)["type"].__args__[0] for block in blocks} - READ
    assert {"image", "document", "search_result", "server_tool_use"} <= kinds
    for kind in kinds:
        refused = await gateway.http.post("/v1/messages", json=ASK | said({"type": kind, "source": DATA}))
        assert refused.status_code == 400
        assert f"'messages[0].content[0]': blocks of type '{kind}' are not supported" in refused.json()["error"]["message"]
