"""What an answer can be held to, over HTTP, by a runner that draws each token evenly from those that are allowed.

Gateway, router, leader, scheduler and grammars are as users have them.
"""

import json
import re
from collections.abc import AsyncIterator
from typing import Any, Literal

import jsonschema
import openai
import pydantic
import pytest
from prometheus_client import CollectorRegistry

from ossia.common.vocabulary import CALL, FIRST_SPECIAL, RETURN, SIZE
from ossia.v1 import engine_pb2
from router.fleet_static import StaticFleet
from router.gateway.settings import Settings
from router.router import Router
from tests.fakes.uniform import UniformRunner
from tests.router.gateway.conftest import Gateway, running
from workers import grammar
from workers.engine.grammar import Below
from workers.engine.limits import Limits
from workers.leader.leader import Leader
from workers.metrics import Metrics

LIMITS = Limits(
    vocab_size=SIZE,
    stop_token_ids=frozenset({RETURN, CALL}),
    max_context=2048,
    block_size=16,
    kv_blocks=2048,
    sliding_blocks=2048,
    window=128,
    max_sequences=32,
    token_budget=512,
)
CARD = engine_pb2.DescribeResponse(
    model_names=["even"], max_context=2048, vocab_size=SIZE, stop_token_ids=[RETURN, CALL], dtype="float32"
)
MESSAGES: list[Any] = [{"role": "user", "content": "Hello!"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["cat", "dog"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 30},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
    },
    "required": ["kind", "age", "tags"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "pet", "strict": True, "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "clock", "strict": True}},
]


class Served:
    """A gateway, asked with plain JSON."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        response = await self.gateway.http.post(f"/v1/{path}", json={"model": "even", **body}, timeout=120)
        answer: dict[str, Any] = response.json()
        assert response.status_code == 200, answer
        return answer

    async def refusal(self, **body: Any) -> tuple[int, str | None, str | None]:
        """Status, param and code of a chat's."""
        response = await self.gateway.http.post("/v1/chat/completions", json={"model": "even", "messages": MESSAGES, **body})
        error = response.json()["error"]
        return response.status_code, error["param"], error["code"]

    async def chat(self, **body: Any) -> dict[str, Any]:
        """The one choice."""
        asked = {"messages": MESSAGES, "thinking_token_budget": 8, "max_tokens": 300, "seed": 5, **body}
        choice: dict[str, Any] = (await self.post("chat/completions", **asked))["choices"][0]
        return choice


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    metrics = Metrics(CollectorRegistry())
    runner = UniformRunner(SIZE, free=Below(FIRST_SPECIAL, RETURN))
    leader = Leader(
        runner, LIMITS, CARD, host="127.0.0.1", port=0, token=None, beat_s=1000.0, metrics=metrics, compile=grammar.compile
    )
    router = Router(StaticFleet([await leader.start()]), registry=CollectorRegistry())
    await router.start()
    await router.wait_ready(True)
    try:
        async with running(router, Settings()) as gateway:
            yield Served(gateway)
    finally:
        await router.close()
        await leader.stop(0.0)


async def test_schemas_expressions_choices_and_grammars(served: Served) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "pet", "strict": True, "schema": SCHEMA}}
    for seed in range(4):
        choice = await served.chat(response_format=form, seed=seed)
        assert choice["finish_reason"] == "stop"
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)
    for path, more in (
        ("chat/completions", {"messages": MESSAGES, "thinking_token_budget": 8}),
        ("completions", {"prompt": "x"}),
    ):

        async def text(path: str = path, more: dict[str, Any] = more, **outputs: Any) -> str:
            choice = (await served.post(path, max_tokens=120, structured_outputs=outputs, **more))["choices"][0]
            assert choice["finish_reason"] == "stop", choice
            return str(choice["message"]["content"] if "message" in choice else choice["text"])

        assert re.fullmatch("[ab]{3,9}é", await text(regex="[ab]{3,9}é"))
        assert await text(choice=["yes, of course", "no"]) in ("yes, of course", "no")
        assert (await text(grammar='start: "a" b\nb: "(" b ")" | "x"\n')).startswith("a")
        jsonschema.validate(json.loads(await text(json=SCHEMA)), SCHEMA)


async def test_calls(served: Served) -> None:
    for choice_asked, names in [("required", {"pet", "clock"}), ({"type": "function", "function": {"name": "pet"}}, {"pet"})]:
        for seed in range(3):
            choice = await served.chat(tools=TOOLS, tool_choice=choice_asked, seed=seed)
            (call,) = choice["message"]["tool_calls"]
            assert (choice["finish_reason"], call["function"]["name"] in names) == ("tool_calls", True)
            arguments = json.loads(call["function"]["arguments"])
            jsonschema.validate(arguments, SCHEMA if call["function"]["name"] == "pet" else {"maxProperties": 0})
    choice = await served.chat(tools=TOOLS, tool_choice="none", max_tokens=60)
    assert "tool_calls" not in choice["message"]


class Pet(pydantic.BaseModel):
    """What the official client makes a schema of, and reads answers with."""

    kind: Literal["cat", "dog"]
    age: int = pydantic.Field(ge=0, le=30)
    friends: list["Pet"] = pydantic.Field(max_length=1)


async def test_the_official_clients_own_helpers(served: Served) -> None:
    chat = served.gateway.client.chat.completions
    more: dict[str, Any] = {"extra_body": {"thinking_token_budget": 4}, "seed": 3, "temperature": 1}
    messages: Any = MESSAGES
    parsed = await chat.parse(model="even", messages=messages, response_format=Pet, **more)
    assert isinstance(parsed.choices[0].message.parsed, Pet)
    with pytest.raises(openai.LengthFinishReasonError):
        await chat.parse(model="even", messages=messages, response_format=Pet, max_tokens=9, **more)

    tool = openai.pydantic_function_tool(Pet, name="pet")
    asked = chat.stream(model="even", messages=messages, tools=[tool], tool_choice="required", logprobs=True, **more)
    async with asked as stream:
        answer = await stream.get_final_completion()
    calls = answer.choices[0].message.tool_calls or []
    assert [type(call.function.parsed_arguments) for call in calls] == [Pet]

    async with chat.stream(model="even", messages=messages, response_format=Pet, n=3, logprobs=True, **more) as stream:
        answer = await stream.get_final_completion()
    assert [type(choice.message.parsed) for choice in answer.choices] == [Pet] * 3
    for choice in answer.choices:
        assert choice.logprobs and choice.logprobs.content
        assert "".join(entry.token for entry in choice.logprobs.content) == choice.message.content


async def test_headers_are_harmony_whatever_the_weights_say(served: Served) -> None:
    got = await served.post("chat/completions", messages=MESSAGES, tools=TOOLS, n=8, max_tokens=60, temperature=2)
    answers = got["choices"]
    assert served.gateway.metric("ossia_gateway_harmony_repairs_total") == 0
    assert {call["function"]["name"] for choice in answers for call in choice["message"].get("tool_calls", [])} <= {
        "pet",
        "clock",
    }


@pytest.mark.parametrize("budget", [0, 1, 20])
async def test_reasoning_stays_within_its_budget(served: Served, budget: int) -> None:
    got = await served.post(
        "chat/completions", messages=MESSAGES, thinking_token_budget=budget, structured_outputs={"choice": ["ok"]}, seed=1
    )
    message = got["choices"][0]["message"]
    assert message["content"] == "ok"
    # A character that the budget's last token left half may be completed.
    assert got["usage"]["completion_tokens_details"]["reasoning_tokens"] <= budget + 3
    assert bool(message["reasoning"]) == bool(budget)


async def test_refusals_name_what_the_caller_wrote(served: Served) -> None:
    unheld = {"type": "object", "propertyNames": {"pattern": "^a"}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": unheld}}
    tools = [TOOLS[1], {"type": "function", "function": {"name": "f", "strict": True, "parameters": unheld}}]
    grammars: list[tuple[dict[str, Any], str]] = [
        ({"response_format": form}, "response_format.json_schema.schema"),
        ({"structured_outputs": {"json": unheld}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": "start: nothing"}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"choice": ["x" * 300_000]}}, "structured_outputs.choice"),
        ({"tools": tools}, "tools[1].function.parameters"),
    ]
    for asked, param in grammars:
        status, named, code = await served.refusal(**asked)
        assert (status, named) == (400, param), asked
        assert code in ("unsupported_grammar", "invalid_grammar", "grammar_too_large")
    for param, value in (("max_completion_tokens", 1_000_000), ("top_k", SIZE + 1)):
        status, named, _ = await served.refusal(**{param: value})
        assert (status, named) == (400, param)
