"""Responses as they are made: items, events, every field of the object, state between requests."""

import asyncio
import json
from typing import Any

import grpc
import openai
import pytest

from ossia.common.vocabulary import decode, encode
from router.engine import EngineError
from router.store.responses import Responses, StoredResponse
from tests.fakes.scripted import FINISH, MODEL, ScriptedEngine, answer, call, pairs
from tests.router.gateway.responses import strict
from tests.router.gateway.responses.conftest import ASK, WEATHER, FakeServer, stream

HELLO: Any = {"role": "user", "content": "Hi"}
TEXT = (
    ["response.output_item.added", "response.content_part.added"],
    ["response.content_part.done", "response.output_item.done"],
)


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The types of the events, runs of deltas as one."""
    types = [event["type"] for event in events]
    return [kind for place, kind in enumerate(types) if not (place and kind == types[place - 1] and kind.endswith(".delta"))]


def contains(tokens: list[int], text: str) -> bool:
    return text in decode(tokens)


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_events_of_reasoning_and_text(start: Any, size: int) -> None:
    gateway = await start(ScriptedEngine(*pairs(answer("Hello, wörld 👋!", "Say hello."), size)))
    events = await stream(gateway)
    assert kinds(events) == [
        "response.created",
        "response.in_progress",
        *TEXT[0],
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        *TEXT[1],
        *TEXT[0],
        "response.output_text.delta",
        "response.output_text.done",
        *TEXT[1],
        "response.completed",
    ]
    assert {event["content_index"] for event in events if "content_index" in event} == {0}
    assert "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta") == "Hello, wörld 👋!"
    final = events[-1]["response"]
    assert [item["type"] for item in final["output"]] == ["reasoning", "message"]
    assert final["output"] == [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert final["output"][0]["content"] == [{"type": "reasoning_text", "text": "Say hello."}]
    assert final["usage"]["output_tokens_details"]["reasoning_tokens"] == len(encode("Say hello."))
    assert (await gateway.http.get(f"/v1/responses/{final['id']}")).json() == final


async def test_the_object_has_every_field(start: Any) -> None:
    gateway = await start(ScriptedEngine(answer("x")))
    asked = {
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "max_tool_calls": 3,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "safety_identifier": "s",
        "temperature": 0.5,
        "top_p": 0.25,
        "top_logprobs": 2,
        "truncation": "auto",
        "user": "me",
    }
    body = (
        await gateway.http.post("/v1/responses", json={**ASK, **asked, "reasoning": {"effort": "low", "summary": "auto"}})
    ).json()
    strict.response(body)
    assert {name: body[name] for name in asked} == asked
    assert (body["status"], body["store"], body["service_tier"], body["tools"]) == ("completed", True, "default", [])
    assert (body["reasoning"], body["text"]["format"]) == ({"effort": "low", "summary": None}, {"type": "text"})
    assert body["completed_at"] >= body["created_at"]
    assert body["output"][0]["content"][0]["logprobs"][0]["token"] == "x"


async def test_parameters_reach_the_engine(start: Any) -> None:
    engine = ScriptedEngine(answer("{}"))
    gateway = await start(engine)
    schema = {"type": "object"}
    await gateway.client.responses.create(
        **ASK,
        max_output_tokens=7,
        temperature=0,
        service_tier="flex",
        text={"format": {"type": "json_schema", "name": "out", "schema": schema}},
        tools=[{**WEATHER, "strict": True}],
        tool_choice="required",
        extra_body={"seed": 5, "top_k": 3},
    )
    (submit,) = engine.submits
    assert (submit.sampling.max_tokens, submit.sampling.temperature, submit.sampling.top_k) == (7, 0, 3)
    assert submit.sampling.seed == 5
    assert submit.priority < 0
    assert json.loads(submit.grammar.json_schema) == schema
    assert [(each.recipient, json.loads(each.parameters)) for each in submit.grammar.functions] == [
        ("functions.weather", WEATHER["parameters"])
    ]
    assert submit.grammar.tool_choice == 2
    assert contains(list(submit.prompt), "## out")


async def test_what_is_cut_off_is_incomplete(start: Any) -> None:
    gateway = await start(ScriptedEngine(answer("A long answer")[:-3], finish=FINISH.FINISH_REASON_LENGTH))
    final = (await stream(gateway))[-1]
    assert final["type"] == "response.incomplete"
    assert final["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in final["response"]["output"]] == ["incomplete"]


async def test_a_turn_without_an_answer_says_so(start: Any) -> None:
    gateway = await start(ScriptedEngine([*answer("", "Hm.")[:-7], 200002]))
    final = (await stream(gateway))[-1]["response"]
    assert (final["status"], [item["type"] for item in final["output"]]) == ("completed", ["reasoning"])
    assert final["finish_details"]["type"] == "no_answer"
    got = await gateway.client.responses.retrieve(final["id"])
    assert got.to_dict()["finish_details"] == final["finish_details"]


async def test_an_output_that_repeats_itself_says_so(start: Any) -> None:
    engine = ScriptedEngine(answer("a a a")[:-1], finish=FINISH.FINISH_REASON_REPETITION)
    gateway = await start(engine)
    final = (await stream(gateway, repetition_detection={"max_pattern_size": 2, "min_count": 3}))[-1]["response"]
    assert (final["status"], final["finish_details"]["type"]) == ("incomplete", "repetition")
    assert engine.submits[0].sampling.repetition_detection.min_count == 3


@pytest.mark.parametrize("name", ["functions.clock", "clock", "wiki", "wiki.write", "python", "read"])
async def test_a_call_that_no_tool_takes_is_shown_as_text(begin: Any, name: str) -> None:
    wiki = FakeServer("wiki", "read")
    gateway = await begin(ScriptedEngine(call(name, "{}")), tools=[wiki])
    tools = [WEATHER, {"type": "mcp", "server_label": "wiki", "require_approval": "never"}]
    final = (await stream(gateway, tools=tools))[-1]["response"]
    assert [item["type"] for item in final["output"]] == ["mcp_list_tools", "message"]
    assert final["output"][1]["content"][0]["text"] == "{}"
    assert not wiki.calls


async def test_a_preamble_is_an_item_of_its_own(start: Any) -> None:
    preamble = [*answer("")[:1], *encode("commentary"), *answer("")[2:3], *encode("I'll look."), 200007, 200006]
    gateway = await start(ScriptedEngine(preamble, [*encode("assistant"), *call("weather", '{"city":"Oslo"}')]))
    got = await gateway.client.responses.create(**ASK, tools=[WEATHER])
    assert [(item.type, getattr(item, "phase", None)) for item in got.output] == [
        ("message", "commentary"),
        ("function_call", None),
    ]
    assert got.output_text == "I'll look."


@pytest.mark.parametrize("size", [1, 100])
async def test_a_function_makes_a_round_trip(start: Any, size: int) -> None:
    engine = ScriptedEngine(*pairs(call("weather", '{"city":"Oslo"}', "Look it up."), size))
    gateway = await start(engine)
    events = await stream(gateway, tools=[WEATHER])
    assert "response.function_call_arguments.done" in kinds(events)
    first = events[-1]["response"]
    assert first["output"][1] | {"id": 0, "call_id": 0} == {
        "id": 0,
        "type": "function_call",
        "status": "completed",
        "call_id": 0,
        "name": "weather",
        "arguments": '{"city":"Oslo"}',
    }
    engine.script = (answer("Sunny."),)
    result = {"type": "function_call_output", "call_id": first["output"][1]["call_id"], "output": "sun"}
    chained = await gateway.client.responses.create(
        model=MODEL, input=[result], tools=[WEATHER], previous_response_id=first["id"]
    )
    assert chained.output_text == "Sunny."
    resent = [{"role": "user", "content": "Hi"}, *first["output"], result]
    await gateway.client.responses.create(model=MODEL, input=resent, tools=[WEATHER], store=False)
    chained_prompt, resent_prompt = (list(submit.prompt) for submit in engine.submits[1:])
    assert chained_prompt == resent_prompt
    for text in ("Look it up.", '{"city":"Oslo"}', "sun"):
        assert contains(chained_prompt, text), text


async def test_reasoning_of_a_finished_turn_is_dropped_and_the_answer_kept(start: Any) -> None:
    engine = ScriptedEngine(answer("Hello", "Secret plan."))
    gateway = await start(engine)
    first = await gateway.client.responses.create(**ASK, instructions="Only now.")
    await gateway.client.responses.create(model=MODEL, input="And?", previous_response_id=first.id)
    prompt = list(engine.submits[1].prompt)
    assert contains(prompt, "Hello")
    assert contains(prompt, "And?")
    assert not contains(prompt, "Secret plan.")
    assert not contains(prompt, "Only now.")


@pytest.mark.parametrize("size", [1, 4, 100])
async def test_a_custom_tool_takes_text(start: Any, size: int) -> None:
    engine = ScriptedEngine(*pairs(call("run", '{"input": "say \\"hi\\"\\n\\ud83d\\udc4b"}'), size))
    gateway = await start(engine)
    tool = {"type": "custom", "name": "run", "format": {"type": "grammar", "syntax": "regex", "definition": "say .*"}}
    events = await stream(gateway, tools=[tool])
    assert [event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta"]
    (item,) = events[-1]["response"]["output"]
    assert (item["type"], item["name"], item["input"]) == ("custom_tool_call", "run", 'say "hi"\n👋')
    assert json.loads(engine.submits[0].grammar.functions[0].parameters)["properties"]["input"]["pattern"] == "^(?:say .*)$"
    result = {"type": "custom_tool_call_output", "call_id": item["call_id"], "output": "done"}
    await gateway.client.responses.create(
        model=MODEL, input=[result], tools=[tool], previous_response_id=events[-1]["response"]["id"]
    )
    assert contains(list(engine.submits[1].prompt), "done")


async def test_logprobs_come_where_they_are_asked_for(start: Any) -> None:
    gateway = await start(ScriptedEngine(*pairs(answer("One two", "Hm."), 2)))
    events = await stream(gateway, include=["message.output_text.logprobs"], top_logprobs=2)
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    told = [entry for event in deltas for entry in event["logprobs"]]
    assert "".join(entry["token"] for entry in told) == "One two"
    assert {len(entry["top_logprobs"]) for entry in told} == {2}
    assert events[-1]["response"]["output"][1]["content"][0]["logprobs"] == told


@pytest.mark.parametrize("size", [1, 100])
async def test_each_message_has_its_own_logprobs(start: Any, size: int) -> None:
    """However tokens are grouped, those of a stop string included, which have no text."""
    preamble = [*answer("")[:1], *encode("commentary"), *answer("")[2:3], *encode("I'll look."), 200007, 200006]
    tokens = [*preamble, *encode("assistant"), *answer("Sunny, I think. STOP")]
    gateway = await start(ScriptedEngine(*pairs(tokens, size)))
    final = (await stream(gateway, top_logprobs=1, stop="STOP"))[-1]["response"]
    told = [item["content"][0] for item in final["output"]]
    said = ["".join(entry["token"] for entry in content["logprobs"]) for content in told]
    assert [content["text"] for content in told] == ["I'll look.", "Sunny, I think. "]
    assert said == ["I'll look.", "Sunny, I think. STOP"]


async def test_reasoning_can_be_kept_by_the_client_sealed(start: Any) -> None:
    engine = ScriptedEngine(call("weather", "{}", "Think hard."))
    gateway = await start(engine)
    asked = {**ASK, "store": False, "include": ["reasoning.encrypted_content"], "tools": [WEATHER]}
    body = (await gateway.http.post("/v1/responses", json=asked)).json()
    thought, made = body["output"]
    assert "Think hard." not in thought["encrypted_content"]
    sealed = {key: thought[key] for key in ("id", "type", "summary", "encrypted_content")}
    result = {"type": "function_call_output", "call_id": made["call_id"], "output": "sun"}
    again = {**asked, "input": [{"role": "user", "content": "Hi"}, sealed, made, result]}
    assert (await gateway.http.post("/v1/responses", json=again)).status_code == 200
    assert contains(list(engine.submits[1].prompt), "Think hard.")
    for wrong in ("", "!", "AAAA", "é", thought["encrypted_content"][:-8] + "AAAAAAA="):
        again["input"][1] = {**sealed, "encrypted_content": wrong}
        refused = await gateway.http.post("/v1/responses", json=again)
        if wrong:
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input[1].encrypted_content"), wrong
    missing = await gateway.http.get(f"/v1/responses/{body['id']}")
    assert missing.status_code == 404


async def test_truncation_drops_the_oldest_and_keeps_calls_with_their_results(start: Any) -> None:
    engine = ScriptedEngine(answer("ok"))
    gateway = await start(engine)
    items: list[dict[str, Any]] = [{"role": "user", "content": f"old {'word ' * 3000}"}]
    items += [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]
    items += [{"type": "function_call_output", "call_id": "c", "output": "word " * 2000}, {"role": "user", "content": "new"}]
    with pytest.raises(openai.BadRequestError, match="context"):
        await gateway.client.responses.create(model=MODEL, input=items)
    await gateway.client.responses.create(model=MODEL, input=items, instructions="Stay.", truncation="auto")
    prompt = list(engine.submits[0].prompt)
    assert contains(prompt, "new")
    assert contains(prompt, "Stay.")
    assert not contains(prompt, "old")
    assert len(prompt) < 3072


async def test_failures_before_the_first_token_are_statuses_and_later_ones_events(start: Any) -> None:
    full = EngineError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", reason="QUEUE_FULL", retry_after_s=2)
    engine = ScriptedEngine(full)
    gateway = await start(engine)
    for more in ({}, {"stream": True}):
        refused = await gateway.http.post("/v1/responses", json={**ASK, **more})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    engine.script = (answer("Hello")[:5], full)
    events = await stream(gateway)
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"] == {"code": "rate_limit_exceeded", "message": "full"}
    assert (await gateway.client.responses.retrieve(events[-1]["response"]["id"])).status == "failed"


async def test_a_client_that_leaves_stops_the_engine_and_leaves_nothing(start: Any) -> None:
    engine = ScriptedEngine(answer("Hello")[:4], None, answer("Hello")[4:])
    gateway = await start(engine)
    async with await gateway.client.responses.create(**ASK, stream=True) as events:
        first = await anext(aiter(events))
    await asyncio.wait_for(engine.left.wait(), 5)
    assert (await gateway.http.get(f"/v1/responses/{first.response.id}")).status_code == 404


async def test_stored_responses_are_listed_and_deleted(start: Any) -> None:
    gateway = await start(ScriptedEngine(answer("x")))
    inputs: Any = [{"role": "user", "content": str(number)} for number in range(5)]
    made = await gateway.client.responses.create(model=MODEL, input=inputs)
    seen = [item async for item in gateway.client.responses.input_items.list(made.id, order="asc", limit=2)]
    assert [item.content[0].text for item in seen] == list("01234")
    assert (
        await gateway.client.responses.input_tokens.count(model=MODEL, input=inputs)
    ).input_tokens == made.usage.input_tokens
    await gateway.client.responses.delete(made.id)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        gone = await gateway.http.request(method, f"/v1/responses/{made.id}{path}")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "response_not_found")


async def test_whatever_items_name_is_read_together(start: Any, monkeypatch: Any) -> None:
    """Also what there is not: reads are few, however many items there are."""
    reads: list[list[str]] = []
    real = Responses.some

    async def some(self: Responses, tenant: str, ids: list[str]) -> list[StoredResponse]:
        reads.append(ids)
        return await real(self, tenant, ids)

    monkeypatch.setattr(Responses, "some", some)
    engine = ScriptedEngine(answer("Forty-two"))
    gateway = await start(engine)
    first = await gateway.client.responses.create(**ASK)
    stems = [first.id.removeprefix("resp_"), *(f"{number:032x}" for number in range(99))]
    searched = [{"type": "web_search_call", "id": f"ws_{stem}o{place:05d}"} for stem in stems for place in (1, 2)]
    reference = {"type": "item_reference", "id": first.output[0].id}
    await gateway.client.responses.create(model=MODEL, input=[*searched, reference, HELLO])
    assert [len(ids) for ids in reads] == [64, 36]
    assert set().union(*reads) == {f"resp_{stem}" for stem in stems}
    assert contains(list(engine.submits[1].prompt), "Forty-two")


async def test_references_name_items_of_stored_responses(start: Any) -> None:
    engine = ScriptedEngine(answer("Forty-two"))
    gateway = await start(engine)
    first = await gateway.client.responses.create(**ASK)
    reference: Any = {"type": "item_reference", "id": first.output[0].id}
    await gateway.client.responses.create(model=MODEL, input=[reference, {"role": "user", "content": "Why?"}])
    assert contains(list(engine.submits[1].prompt), "Forty-two")
    mixed: Any = [{"role": "user", "content": "Hi"}, reference, first.output[0].model_dump() | {"id": "msg_other"}]
    await gateway.client.responses.create(model=MODEL, input=mixed)
    for wrong in ("msg_none", first.output[0].id.replace("o0", "o9")):
        with pytest.raises(openai.NotFoundError):
            await gateway.client.responses.create(model=MODEL, input=[{"type": "item_reference", "id": wrong}])


CALL = {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"input": None}, "input"),
    ({"input": []}, "input"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content[0].type"),
    ({"input": [{"type": "computer_call_output"}]}, "input[0]"),
    ({"input": [{"type": "function_call_output", "call_id": "none", "output": ""}]}, "input[0]"),
    ({"previous_response_id": "resp_none"}, "previous_response_id"),
    ({"previous_response_id": "a", "conversation": "b"}, "conversation"),
    ({"background": True, "store": False}, "background"),
    ({"conversation": "b", "store": False}, "conversation"),
    ({"max_tokens": 3}, "max_tokens"),
    ({"n": 2}, "n"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"include": ["everything"]}, "include[0]"),
    ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
    ({"text": {"verbosity": "high"}}, "text.verbosity"),
    ({"tools": [{"type": "image_generation"}]}, "tools[0]"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "mcp", "server_label": "x", "server_url": "http://evil"}]}, "tools[0].server_url"),
    ({"tools": [{"type": "mcp", "server_label": "x", "headers": {"a": "b"}}]}, "tools[0].headers"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1]"),
    (
        {"tools": [{"type": "custom", "name": "a", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}}]},
        "tools[0].format.syntax",
    ),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "name": "b"}, "tools": [WEATHER]}, "tool_choice"),
    ({"tool_choice": "sometimes"}, "tool_choice"),
    ({"frobnicate": 1}, "frobnicate"),
    ({"tools": [{**WEATHER, "frobnicate": 1}]}, "tools[0].frobnicate"),
    ({"tools": [{**WEATHER, "allowed_callers": ["programmatic"]}]}, "tools[0].allowed_callers[0]"),
    ({"tools": [{**WEATHER, "defer_loading": True}]}, "tools[0].defer_loading"),
    ({"tools": [{**WEATHER, "output_schema": {"type": "object"}}]}, "tools[0].output_schema"),
    ({"tools": [{**WEATHER, "async": True}]}, "tools[0].async"),
    ({"tools": [{"type": "custom", "name": "a", "async": True}]}, "tools[0].async"),
    ({"tools": [{"type": "mcp", "server_label": "x", "allowed_tools": {"read_only": True}}]}, "tools[0].allowed_tools"),
    ({"tools": [{"type": "mcp", "server_label": "x", "defer_loading": True}]}, "tools[0].defer_loading"),
    ({"tools": [{"type": "web_search", "external_web_access": False}]}, "tools[0].external_web_access"),
    ({"tools": [{"type": "web_search", "filters": {"allowed_domains": ["a.b"]}}]}, "tools[0].filters.allowed_domains"),
    ({"tools": [{"type": "web_search", "filters": {"blocked_domains": ["a.b"]}}]}, "tools[0].filters.blocked_domains"),
    ({"tools": [{"type": "web_search", "user_location": {"city": "Oslo"}}]}, "tools[0].user_location.city"),
    ({"tools": [{"type": "web_search_preview", "search_content_types": ["image"]}]}, "tools[0].search_content_types[0]"),
    ({"tools": [{"type": "code_interpreter", "container": {"type": "auto", "x": 1}}]}, "tools[0].container.x"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "weather", "x": 1}}, "tool_choice.x"),
    (
        {
            "tools": [WEATHER],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "weather", "strict": True}],
            },
        },
        "tool_choice.tools[0].strict",
    ),
    ({"input": [{"role": "user", "content": "x", "name": "ann"}]}, "input[0].name"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x", "detail": "low"}]}]},
        "input[0].content[0].detail",
    ),
    ({"input": [{**CALL, "async": True}]}, "input[0].async"),
    ({"input": [{**CALL, "namespace": "crm"}]}, "input[0].namespace"),
    ({"input": [{**CALL, "caller": {"type": "program", "caller_id": "p"}}]}, "input[0].caller"),
    ({"input": [{"type": "item_reference", "id": "msg_x", "frobnicate": 1}]}, "input[0].frobnicate"),
    ({"stream_options": {"include_usage": True}, "stream": True}, "stream_options.include_usage"),
]


@pytest.mark.parametrize(("more", "param"), REFUSED)
async def test_what_cannot_be_honoured_is_refused(start: Any, more: dict[str, Any], param: str) -> None:
    gateway = await start(ScriptedEngine(answer("x")))
    refused = await gateway.http.post("/v1/responses", json={**ASK, **more})
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"].startswith(param), refused.text


ASKS_NOTHING: dict[str, Any] = {"allowed_callers": ["direct"], "defer_loading": False, "strict": False, "frobnicate": None}


async def test_what_asks_for_nothing_is_accepted_and_what_was_told_can_be_sent_back(begin: Any) -> None:
    engine = ScriptedEngine(call("weather", "{}", "Look."))
    gateway = await begin(engine, tools=[FakeServer("browser", "search"), FakeServer("wiki", "read")])
    function = {**WEATHER, **ASKS_NOTHING, "output_schema": {}, "async": False, "cache_control": {"type": "ephemeral"}}
    tools = [
        function,
        {"type": "custom", "name": "run", "async": False, "defer_loading": False},
        {"type": "mcp", "server_label": "wiki", "allowed_callers": ["direct"], "headers": {}, "authorization": None},
        {
            "type": "web_search",
            "external_web_access": True,
            "filters": {"allowed_domains": []},
            "user_location": {"type": "approximate", "city": None},
            "search_content_types": ["text"],
        },
    ]
    first = await gateway.client.responses.create(**ASK, tools=tools)
    assert [tool.type for tool in first.tools] == [tool["type"] for tool in tools]
    assert first.tools[0].model_dump(by_alias=True, exclude_unset=True) == {**WEATHER, "strict": False}
    made = first.output[-1]
    nothing = {"id": None, "status": None, "caller": None}
    result = {"type": "function_call_output", "call_id": made.call_id, "output": "sun", "name": "weather", **nothing}
    told = [{**item.model_dump(), "created_by": "user_1"} for item in first.output]
    parsed = [{**made.model_dump(by_alias=True), "parsed_arguments": {}, "async": False, **nothing}]
    sun = [{"type": "output_text", "text": "Sunny.", "annotations": [], "logprobs": [], "parsed": {"a": 1}}]
    said = {"type": "message", "role": "assistant", "status": "completed", "phase": "final_answer", "content": sun}
    engine.script = (answer("x"),)
    for output in (told, [*told[:-1], *parsed]):
        await gateway.client.responses.create(model=MODEL, input=[HELLO, *output, result, said, HELLO], tools=tools)
        assert contains(list(engine.submits[-1].prompt), "Sunny.")
