"""Every parameter reaches the engine under its protocol's name, from both endpoints; what is not asked for is not sent."""

import asyncio
import re
import time
from datetime import date
from typing import Any

import pytest
from google.protobuf import text_format

from ossia.common.vocabulary import END, RETURN, START, decode, encode
from ossia.v1 import engine_pb2
from router.gateway.choice import derived
from router.gateway.settings import Settings
from tests.fakes.scripted import CONTEXT, MODEL, ScriptedEngine, answer
from tests.router.harmony.streams import tokens

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
COMPLETION: dict[str, Any] = {"model": MODEL, "prompt": "Hi"}
BOTH = pytest.mark.parametrize(("path", "ask"), [("chat/completions", CHAT), ("completions", COMPLETION)])
WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
TOOLS: list[Any] = [
    {"type": "function", "function": {**WEATHER, "strict": True}},
    {"type": "function", "function": {"name": "clock", "strict": True}},
    {"type": "function", "function": {"name": "note", "parameters": {"type": "object"}}},
]
SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"enum": ["é"]}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "reply", "description": "What to say.", "schema": SCHEMA}}
SCHEMA_TEXT = '{"type":"object","properties":{"b":{"type":"integer"},"a":{"enum":["é"]}}}'


async def submitted(start: Any, path: str, body: dict[str, Any], settings: Settings | None = None) -> list[engine_pb2.Submit]:
    engine = ScriptedEngine(answer("x"))
    gateway = await start(engine, settings)
    response = await gateway.http.post(f"/v1/{path}", json=body, headers={"x-request-id": "one"})
    assert response.status_code == 200, response.text
    return engine.submits


def grammar(text: str) -> engine_pb2.Grammar:
    return text_format.Parse(text, engine_pb2.Grammar())


@BOTH
async def test_sampling(start: Any, path: str, ask: Any) -> None:
    asked: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 7,
        "min_p": 0.125,
        "presence_penalty": -1,
        "frequency_penalty": 1.5,
        "repetition_penalty": 1.25,
        "logit_bias": {"5": -100, "201087": 0.5},
        "seed": -2,
        "max_tokens": 9,
        "min_tokens": 3,
        "stop_token_ids": [11, 12],
        "ignore_eos": True,
        "repetition_detection": {"max_pattern_size": 20, "min_count": 3},
        "cache_salt": "ü",
    }
    (submit,) = await submitted(start, path, {**ask, **asked})
    expected = """temperature: 0.5 top_p: 0.25 top_k: 7 min_p: 0.125 presence_penalty: -1 frequency_penalty: 1.5
        repetition_penalty: 1.25 logit_bias { id: 5 bias: -100 } logit_bias { id: 201087 bias: 0.5 } max_tokens: 9 min_tokens: 3
        stop_token_ids: 11 stop_token_ids: 12 ignore_eos: true
        repetition_detection { max_pattern_size: 20 min_pattern_size: 1 min_count: 3 }"""
    assert submit.sampling == text_format.Parse(expected, engine_pb2.Sampling(seed=2**64 - 2))
    assert submit.cache_salt == "ü".encode()
    assert not submit.HasField("grammar"), "a turn that goes on behind its end is no turn"


@BOTH
@pytest.mark.parametrize("none", [False, True])
async def test_what_is_not_asked_for(start: Any, path: str, ask: Any, none: bool) -> None:
    names = ["temperature", "logit_bias", "seed", "stop_token_ids", "ignore_eos", "n", "response_format", "structured_outputs"]
    absent = {**dict.fromkeys([*names, "logprobs"]), "repetition_detection": {"max_pattern_size": 0}}
    (submit,) = await submitted(start, path, {**ask, **(absent if none else {})})
    submit.sampling.ClearField("max_tokens")  # which completions have always
    assert submit.sampling == engine_pb2.Sampling()
    assert submit.HasField("grammar") == (ask is CHAT)
    assert not submit.cache_salt


CONTENTS = [
    ({"response_format": {"type": "json_object"}}, 'json_schema: \'{"type":"object"}\''),
    ({"response_format": FORMAT}, f"json_schema: '{SCHEMA_TEXT}'"),
    ({"structured_outputs": {"json": SCHEMA}}, f"json_schema: '{SCHEMA_TEXT}'"),
    ({"structured_outputs": {"json": '{"type": "null"}'}}, 'json_schema: \'{"type": "null"}\''),
    ({"structured_outputs": {"json_object": True}}, 'json_schema: \'{"type":"object"}\''),
    ({"structured_outputs": {"regex": "a+"}, "response_format": {"type": "text"}}, "regex: 'a+'"),
    ({"structured_outputs": {"choice": ["yes", "no"]}}, "choice { texts: 'yes' texts: 'no' }"),
    ({"structured_outputs": {"grammar": "start: A"}}, "lark: 'start: A'"),
]


@BOTH
@pytest.mark.parametrize(("asked", "expected"), CONTENTS)
async def test_what_an_answer_is_held_to(start: Any, path: str, ask: Any, asked: Any, expected: str) -> None:
    (submit,) = await submitted(start, path, {**ask, **asked})
    assert submit.grammar == grammar(f"{expected} {'harmony: true' if ask is CHAT else ''}")


async def test_a_raw_prompt_may_ask_for_a_harmony_turn(start: Any) -> None:
    for asked, expected in [({}, ""), ({"regex": "a+"}, "regex: 'a+'")]:
        (submit,) = await submitted(start, "completions", {**COMPLETION, "structured_outputs": {"harmony": True, **asked}})
        assert submit.grammar == grammar(f"harmony: true {expected}")
        thinking = {"structured_outputs": {"harmony": True, **asked}, "thinking_token_budget": 7}
        (submit,) = await submitted(start, "completions", {**COMPLETION, **thinking})
        assert submit.grammar == grammar(f"harmony: true {expected} reasoning_tokens: 7")


WEATHER_TEXT = '{"type":"object","properties":{"city":{"type":"string"}}}'
DECLARED = [
    f"functions {{ recipient: 'functions.weather' parameters: '{WEATHER_TEXT}' }}",
    "functions { recipient: 'functions.clock'"
    ' parameters: \'{"type":"object","properties":{},"additionalProperties":false}\' }',
    "functions { recipient: 'functions.note' parameters: '{\"type\":\"object\"}' }",
]
TURNS: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"tools": TOOLS}, " ".join(DECLARED)),
    ({"tools": TOOLS, "tool_choice": "auto", "parallel_tool_calls": False}, " ".join(DECLARED)),
    ({"tools": TOOLS, "tool_choice": "none"}, ""),
    ({"tools": TOOLS, "tool_choice": "required"}, f"{' '.join(DECLARED)} tool_choice: TOOL_CHOICE_REQUIRED"),
    (
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "clock"}}},
        f"{DECLARED[1]} tool_choice: TOOL_CHOICE_REQUIRED",
    ),
    ({"thinking_token_budget": 0}, "reasoning_tokens: 0"),
    ({"thinking_token_budget": 100, "reasoning_effort": "none"}, "reasoning_tokens: 100"),
]


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
async def test_an_engine_that_makes_arguments_up_is_told_what_functions_declare(start: Any, path: str) -> None:
    """Where they are held to less."""
    engine, functions = ScriptedEngine(answer("x")), [{**WEATHER, "strict": strict} for strict in (True, False)]
    functions[1] = {**functions[1], "name": "other"}
    assert isinstance(engine.card, engine_pb2.DescribeResponse)
    engine.card.reads_declarations = True
    gateway = await start(engine)
    if path == "responses":
        body = {"model": MODEL, "input": "Hi", "tools": [{"type": "function", **function} for function in functions]}
    else:
        body = {**CHAT, "tools": [{"type": "function", "function": function} for function in functions]}
    response = await gateway.http.post(f"/v1/{path}", json=body)
    assert response.status_code == 200, response.text
    strict, other = engine.submits[0].grammar.functions
    assert (strict.parameters, strict.HasField("declared")) == (WEATHER_TEXT, False)
    assert (other.parameters == WEATHER_TEXT, other.declared) == (False, WEATHER_TEXT)


@pytest.mark.parametrize(("asked", "expected"), TURNS)
async def test_what_a_turn_is_held_to(start: Any, asked: Any, expected: str) -> None:
    (submit,) = await submitted(start, "chat/completions", {**CHAT, **asked})
    assert submit.grammar == grammar(f"harmony: true {expected}")


async def test_the_prompt_tells_of_all_tools_whichever_must_be_called(start: Any) -> None:
    named = {"type": "function", "function": {"name": "clock"}}
    prompts = [
        (await submitted(start, "chat/completions", {**CHAT, "tools": TOOLS, "tool_choice": choice}))[0].prompt
        for choice in (None, "required", named)
    ]
    assert prompts[0] == prompts[1] == prompts[2]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs.regex"),
        ({"tools": TOOLS[1:]}, "tools[0].function.strict"),
        ({"tools": TOOLS[2:], "tool_choice": "required"}, "tool_choice"),
        ({"thinking_token_budget": 5}, "thinking_token_budget"),
    ],
)
async def test_a_model_of_another_vocabulary_has_no_grammars(start: Any, asked: Any, param: str) -> None:
    engine = ScriptedEngine(answer("x"))
    engine.card.vocab_size = 128_000  # type: ignore[union-attr]
    gateway = await start(engine)
    refused = (await gateway.http.post("/v1/chat/completions", json={**CHAT, **asked})).json()["error"]
    assert (refused["param"], refused["code"]) == (param, "invalid_value")
    assert not engine.submits


async def test_nor_is_its_output_held_to_harmony(start: Any) -> None:
    engine = ScriptedEngine(encode("x"))
    engine.card.vocab_size = 199_000  # type: ignore[union-attr]
    gateway = await start(engine)
    response = await gateway.http.post("/v1/completions", json={**COMPLETION, "prompt": [5], "top_k": 199_000})
    assert response.status_code == 200
    response = await gateway.http.post("/v1/completions", json={**COMPLETION, "prompt": [5], "top_k": 199_001})
    assert response.json()["error"]["param"] == "top_k"
    engine.card.vocab_size = 201_216  # type: ignore[union-attr]
    await gateway.http.post("/v1/chat/completions", json={**CHAT, "tools": TOOLS[2:]})
    assert len(engine.submits) == 2
    assert not any(submit.HasField("grammar") for submit in engine.submits)


@BOTH
async def test_choices_have_seeds_of_their_own(start: Any, path: str, ask: Any) -> None:
    one = await submitted(start, path, {**ask, "seed": 7})
    three = await submitted(start, path, {**ask, "seed": 7, "n": 3})
    seeds = [submit.sampling.seed for submit in three]
    assert seeds[0] == one[0].sampling.seed == 7
    assert seeds[1:] == [derived(7, 1), derived(7, 2)]
    assert len(set(seeds)) == 3
    for submit in three:
        submit.sampling.seed = 7
    assert three == one * 3
    unseeded = await submitted(start, path, {**ask, "n": 2})
    assert not any(submit.sampling.HasField("seed") for submit in unseeded), "each gets one where it is accepted"


def test_the_derived_seed_is_what_the_documentation_says() -> None:
    assert derived(7, 1) == 14_818_979_533_484_651_488


async def test_open_ended_choices_share_what_one_request_may_ask_for(start: Any) -> None:
    settings = Settings(max_output_tokens=4 * CONTEXT)
    for n, expected in [(1, None), (4, None), (8, CONTEXT // 2)]:
        for submit in await submitted(start, "chat/completions", {**CHAT, "n": n}, settings):
            limit = submit.sampling.max_tokens if submit.sampling.HasField("max_tokens") else None
            assert limit == expected
    ask = {**COMPLETION, "prompt": [[5], [6], [7]], "n": 3, "max_tokens": 16 * CONTEXT // 36}
    assert len(await submitted(start, "completions", ask, settings)) == 9
    gateway = await start(ScriptedEngine([RETURN]), settings)
    refused = await gateway.http.post("/v1/completions", json={**ask, "max_tokens": 16 * CONTEXT // 36 + 1})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_tokens")


@BOTH
async def test_what_comes_first(start: Any, path: str, ask: Any) -> None:
    (submit,) = await submitted(start, path, ask)
    assert (submit.priority, submit.HasField("deadline_unix_ms")) == (0, False)
    before = time.time() * 1000
    (submit,) = await submitted(start, path, {**ask, "priority": -3, "timeout": 60})
    assert submit.priority == 3, "a rank in the API, and in the protocol higher is earlier"
    assert before + 60_000 - 1 <= submit.deadline_unix_ms <= time.time() * 1000 + 60_000


@pytest.mark.parametrize(
    ("tier", "priority", "told"),
    [
        ("auto", 0, "default"),
        ("default", 0, "default"),
        ("flex", -100, "flex"),
        ("priority", 100, "priority"),
        ("fast", 100, "priority"),
    ],
)
async def test_a_tier_of_service_is_a_priority_and_is_told(start: Any, tier: str, priority: int, told: str) -> None:
    engine = ScriptedEngine(answer("x"))
    gateway = await start(engine)
    whole = await gateway.client.chat.completions.create(**CHAT, service_tier=tier)
    stream = await gateway.client.chat.completions.create(**CHAT, service_tier=tier, stream=True)
    assert {whole.service_tier, *[chunk.service_tier async for chunk in stream]} == {told}
    assert [submit.priority for submit in engine.submits] == [priority] * 2


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (allowed("auto", "note", "clock"), " ".join(DECLARED[1:])),
        (allowed("required", "note"), f"{DECLARED[2]} tool_choice: TOOL_CHOICE_REQUIRED"),
    ],
)
async def test_of_the_tools_some_may_be_called(start: Any, choice: Any, expected: str) -> None:
    (submit,) = await submitted(start, "chat/completions", {**CHAT, "tools": TOOLS, "tool_choice": choice})
    assert submit.grammar == grammar(f"harmony: true {expected}")
    (plain,) = await submitted(start, "chat/completions", {**CHAT, "tools": TOOLS})
    assert submit.prompt == plain.prompt, "the prompt stays the same, and cached"


PROMPTS: list[tuple[dict[str, Any], str]] = [
    ({"chat_template_kwargs": {"model_identity": "You are Ann."}}, "<|start|>system<|message|>You are Ann.\n"),
    ({"chat_template_kwargs": {"reasoning_effort": "high"}}, "\nReasoning: high\n"),
    ({"messages": [{"role": "user", "content": "Hi", "name": "ann-1"}]}, "<|start|>user:ann-1<|message|>Hi"),
    ({"messages": [{"role": "assistant", "content": None, "refusal": "No."}]}, "<|channel|>final<|message|>No.<|end|>"),
]


@pytest.mark.parametrize(("asked", "expected"), PROMPTS)
async def test_what_prompts_state(start: Any, asked: Any, expected: str) -> None:
    (submit,) = await submitted(start, "chat/completions", {**CHAT, **asked})
    assert expected in decode(submit.prompt)


@pytest.mark.parametrize(
    ("pinned", "stated"),
    [(date(2025, 6, 28), "2025-06-28"), ("none", None), ("today", r"20\d\d-\d\d-\d\d")],
)
async def test_the_date(start: Any, pinned: Any, stated: str | None) -> None:
    (submit,) = await submitted(start, "chat/completions", CHAT, Settings(prompt_date=pinned))
    found = re.findall(r"Current date: (.*)", decode(submit.prompt))
    assert len(found) == bool(stated)
    assert all(re.fullmatch(stated or "", day) for day in found)


ECHOED = {
    "id": "chatcmpl-1",
    "role": "assistant",
    "content": "Hello",
    "refusal": None,
    "annotations": [{"type": "url_citation"}],
    "audio": None,
    "function_call": None,
    "parsed": {"a": 1},
    "reasoning_details": [],
    "tool_calls": [],
}
MARKED = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}


async def test_keys_that_ask_for_nothing_are_no_mistake(start: Any) -> None:
    messages = [{"role": "user", "content": [MARKED], "name": None}, ECHOED, {"role": "user", "content": "Hi"}]
    plain = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Hi"}]
    (one,) = await submitted(start, "chat/completions", {**CHAT, "messages": messages})
    (other,) = await submitted(start, "chat/completions", {**CHAT, "messages": plain})
    assert one.prompt == other.prompt


USER = {"role": "user", "content": "Hi"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"messages": [{**USER, "weight": 1}]}, "messages[0].weight"),
    ({"messages": [{**ECHOED, "audio": {"id": "a"}}]}, "messages[0].audio"),
    ({"messages": [{"role": "system", "content": "x", "name": "example_user"}]}, "messages[0].name"),
    ({"messages": [{**USER, "name": "<|end|>"}]}, "messages[0].name"),
    ({"messages": [{**USER, "content": [{"type": "text", "text": "x", "detail": "high"}]}]}, "messages[0].content[0].detail"),
    ({"tools": [{"type": "function", "function": {"name": "f", "deferred": True}}]}, "tools[0].function.deferred"),
    ({"tools": TOOLS, "tool_choice": allowed("auto", "nobody")}, "tool_choice.allowed_tools.tools[0].function.name"),
    ({"tools": TOOLS, "tool_choice": allowed("none", "clock")}, "tool_choice.allowed_tools.mode"),
    ({"tools": TOOLS, "tool_choice": {"type": "custom", "custom": {"name": "x"}}}, "tool_choice.type"),
    ({"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs.enable_thinking"),
    ({"chat_template_kwargs": {"reasoning_effort": "low"}, "reasoning_effort": "low"}, "chat_template_kwargs.reasoning_effort"),
    ({"service_tier": "scale"}, "service_tier"),
    ({"service_tier": "flex", "priority": 1}, "priority"),
    ({"timeout": 0}, "timeout"),
    ({"repetition_detection": {"max_pattern_size": 8, "min_count": 1}}, "repetition_detection"),
    ({"repetition_detection": {"max_pattern_size": 8, "min_pattern_size": 9, "min_count": 2}}, "repetition_detection"),
    ({"repetition_detection": {"max_pattern_size": 1025, "min_count": 2}}, "repetition_detection.max_pattern_size"),
    ({"repetition_detection": {"max_pattern_size": 8, "min_count": 2, "most": 1}}, "repetition_detection.most"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"metadata": {"a" * 65: "b"}}, f"metadata.{'a' * 65}"),
    ({"prompt_cache_options": {"mode": "explicit"}}, "prompt_cache_options"),
    ({"moderation": {"model": "m"}}, "moderation"),
    ({"verbosity": "low"}, "verbosity"),
]


@pytest.mark.parametrize(("asked", "param"), REFUSED)
async def test_what_is_not_honoured_is_refused(start: Any, asked: Any, param: str) -> None:
    gateway = await start(ScriptedEngine(answer("x")))
    response = await gateway.http.post("/v1/chat/completions", json={**CHAT, **asked})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.text


async def test_a_second_call_ends_a_turn_whose_calls_are_not_parallel(start: Any) -> None:
    head = tokens("<|channel|>commentary to=functions.note<|message|>{}")
    engine = ScriptedEngine([*head, END, START, *encode("assistant"), *head, END], None)
    gateway = await start(engine)
    got = await gateway.client.chat.completions.create(**CHAT, tools=TOOLS, parallel_tool_calls=False)
    assert (len(got.choices[0].message.tool_calls), got.choices[0].finish_reason) == (1, "tool_calls")
    await asyncio.wait_for(engine.left.wait(), 5)
