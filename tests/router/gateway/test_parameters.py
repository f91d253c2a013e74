"""Every parameter reaches the engine under its protocol's name, from both endpoints; what is not asked for is not sent."""

from typing import Any

import pytest
from google.protobuf import text_format

from ossia.common.vocabulary import RETURN, encode
from ossia.v1 import engine_pb2
from router.gateway.choice import derived
from router.gateway.settings import Settings
from tests.fakes.scripted import CONTEXT, MODEL, ScriptedEngine, answer

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
        "cache_salt": "ü",
    }
    (submit,) = await submitted(start, path, {**ask, **asked})
    expected = """temperature: 0.5 top_p: 0.25 top_k: 7 min_p: 0.125 presence_penalty: -1 frequency_penalty: 1.5
        repetition_penalty: 1.25 logit_bias { id: 5 bias: -100 } logit_bias { id: 201087 bias: 0.5 } max_tokens: 9 min_tokens: 3
        stop_token_ids: 11 stop_token_ids: 12 ignore_eos: true"""
    assert submit.sampling == text_format.Parse(expected, engine_pb2.Sampling(seed=2**64 - 2))
    assert submit.cache_salt == "ü".encode()
    assert not submit.HasField("grammar"), "a turn that goes on behind its end is no turn"


@BOTH
@pytest.mark.parametrize("none", [False, True])
async def test_what_is_not_asked_for(start: Any, path: str, ask: Any, none: bool) -> None:
    names = ["temperature", "logit_bias", "seed", "stop_token_ids", "ignore_eos", "n", "response_format", "structured_outputs"]
    (submit,) = await submitted(start, path, {**ask, **(dict.fromkeys([*names, "logprobs"]) if none else {})})
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
