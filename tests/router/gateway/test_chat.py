"""Chat completions through the official client: streams and whole answers, reasoning, tools, stop strings, usage."""

import asyncio
import json
from typing import Any

import openai
import pytest

from ossia.common.vocabulary import encode
from router.gateway.settings import Settings
from tests.fakes.scripted import FINISH, MODEL, ScriptedEngine, answer, call, pairs

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]


async def collect(stream: Any) -> dict[str, Any]:
    """What a stream said, put together."""
    got: dict[str, Any] = {"content": "", "reasoning": "", "calls": [], "finish": None, "usage": None, "chunks": []}
    async for chunk in stream:
        got["chunks"].append(chunk)
        got["usage"] = chunk.usage or got["usage"]
        for choice in chunk.choices:
            got["content"] += choice.delta.content or ""
            got["reasoning"] += getattr(choice.delta, "reasoning", None) or ""
            got["finish"] = choice.finish_reason or got["finish"]
            for part in choice.delta.tool_calls or []:
                if part.id:
                    got["calls"].append([part.id, part.function.name, ""])
                got["calls"][part.index][2] += part.function.arguments
    return got


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_a_stream_carries_reasoning_text_and_usage(start: Any, size: int) -> None:
    tokens = answer("Hello, wörld 👋!", "Say hello.")
    gateway = await start(ScriptedEngine(*pairs(tokens, size)))
    stream = await gateway.client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
    got = await collect(stream)
    assert (got["content"], got["reasoning"], got["finish"]) == ("Hello, wörld 👋!", "Say hello.", "stop")
    assert got["chunks"][0].choices[0].delta.role == "assistant"
    assert got["chunks"][-1].choices == []
    usage = got["usage"]
    assert usage.completion_tokens == len(tokens)
    assert usage.completion_tokens_details.reasoning_tokens == len(encode("Say hello."))
    assert usage.prompt_tokens_details.cached_tokens == 2
    details = usage.completion_tokens_details
    assert (details.accepted_prediction_tokens, details.rejected_prediction_tokens) == (3, 2)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert len({chunk.id for chunk in got["chunks"]}) == 1


async def test_every_chunk_says_what_was_used_so_far_where_that_is_asked_for(start: Any) -> None:
    tokens = answer("Hello there", "Think.")
    gateway = await start(ScriptedEngine(*pairs(tokens, 1)))
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    got = await collect(await gateway.client.chat.completions.create(**ASK, stream=True, stream_options=options))
    used = [chunk.usage.completion_tokens for chunk in got["chunks"]]
    assert (used[0], used[-1]) == (1, len(tokens))
    assert used == sorted(used) and len(set(used)) > 4
    first = next(chunk for chunk in got["chunks"] if chunk.choices[0].delta.content)
    assert first.usage.completion_tokens_details.reasoning_tokens == len(encode("Think."))


async def test_a_whole_answer_says_the_same(start: Any) -> None:
    engine = ScriptedEngine(*pairs(answer("Hello", "Think."), 2))
    gateway = await start(engine)
    got = await gateway.client.chat.completions.create(**ASK)
    message = got.choices[0].message
    assert (message.content, message.reasoning, message.reasoning_content) == ("Hello", "Think.", "Think.")
    assert (got.choices[0].finish_reason, got.object, got.model) == ("stop", "chat.completion", MODEL)
    assert got.usage.prompt_tokens == len(engine.submits[0].prompt)
    assert got.system_fingerprint.startswith("fp_")
    assert message.tool_calls is None


async def test_the_synchronous_client(start: Any) -> None:
    gateway = await start(ScriptedEngine(*pairs(answer("Hello"), 1)))

    def ask() -> tuple[str, str | None]:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
            stream = client.chat.completions.create(**ASK, stream=True)
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            return streamed, client.chat.completions.create(**ASK).choices[0].message.content

    assert await asyncio.to_thread(ask) == ("Hello", "Hello")


async def test_the_first_delta_is_flushed_before_the_second_exists(start: Any) -> None:
    engine = ScriptedEngine(answer("Hello")[:4], None, answer("Hello")[4:])
    gateway = await start(engine)
    stream = await gateway.client.chat.completions.create(**ASK, stream=True)
    chunks = aiter(stream)
    assert (await anext(chunks)).choices[0].delta.role == "assistant"
    assert (await anext(chunks)).choices[0].delta.content == "Hello"
    engine.go.set()
    assert [chunk.choices[0].finish_reason async for chunk in chunks] == ["stop"]


@pytest.mark.parametrize("size", [1, 100])
async def test_tools_make_a_round_trip(start: Any, size: int) -> None:
    engine = ScriptedEngine(*pairs(call("weather", '{"city":"Oslo"}', "Look it up."), size))
    gateway = await start(engine)
    got = await collect(await gateway.client.chat.completions.create(**ASK, tools=TOOLS, stream=True))
    assert got["finish"] == "tool_calls"
    ((id_, name, arguments),) = got["calls"]
    assert (name, json.loads(arguments)) == ("weather", {"city": "Oslo"})
    assert len(id_) == len("call_") + 32

    whole = (await gateway.client.chat.completions.create(**ASK, tools=TOOLS)).choices[0].message
    assert whole.content is None
    assert whole.tool_calls[0].function.arguments == '{"city":"Oslo"}'
    assert whole.tool_calls[0].id != id_

    engine.script = tuple(pairs(answer("Sunny."), 1))
    result = {"role": "tool", "tool_call_id": whole.tool_calls[0].id, "content": "sun"}
    messages = [*ASK["messages"], whole.model_dump(), result]
    final = await gateway.client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    assert final.choices[0].message.content == "Sunny."
    prompt = list(engine.submits[-1].prompt)
    for text in ("Look it up.", '{"city":"Oslo"}', "sun"):
        assert contains(prompt, text)


def contains(tokens: list[int], text: str) -> bool:
    part = encode(text)
    return any(tokens[at : at + len(part)] == part for at in range(len(tokens)))


LOOSE = {"ignore_eos": True}  # nothing holds the output to harmony


async def test_a_call_that_no_tool_takes_is_shown_as_text(start: Any) -> None:
    engine = ScriptedEngine(call("weather", '{"a":1}'))
    gateway = await start(engine)
    others: Any = [{"type": "function", "function": {"name": name}} for name in ("Weather", "weather_", "functions-weather")]
    for more in ({}, {"tools": TOOLS, "tool_choice": "none"}, {"tools": others}, {"tools": others, "extra_body": LOOSE}):
        choice = (await gateway.client.chat.completions.create(**ASK, **more)).choices[0]
        assert (choice.message.content, choice.finish_reason, choice.message.tool_calls) == ('{"a":1}', "stop", None)
        chunks = [chunk async for chunk in await gateway.client.chat.completions.create(**ASK, **more, stream=True)]
        deltas = [chunk.choices[0].delta for chunk in chunks]
        assert "".join(delta.content or "" for delta in deltas) == '{"a":1}'
        assert not any(delta.tool_calls for delta in deltas)
    assert engine.submits[0].prompt == engine.submits[2].prompt
    assert gateway.metric("ossia_gateway_harmony_repairs_total") == 8


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_stop_string_across_tokens_ends_generation(start: Any, size: int, stream: bool) -> None:
    tokens = answer("One two three END of it", "reasoning may say END")
    engine = ScriptedEngine(*pairs(tokens, size), None)
    gateway = await start(engine)
    options = {**ASK, "stop": ["ee EN", "nowhere"]}
    if stream:
        got = await collect(await gateway.client.chat.completions.create(**options, stream=True))
        content, finish = got["content"], got["finish"]
    else:
        whole = await gateway.client.chat.completions.create(**options)
        content, finish = whole.choices[0].message.content, whole.choices[0].finish_reason
        until = len(tokens) - len(encode(" of it")) - 1
        assert whole.usage.completion_tokens == until
        assert whole.choices[0].message.reasoning == "reasoning may say END"
    assert (content, finish) == ("One two thr", "stop")
    await asyncio.wait_for(engine.left.wait(), 5)


async def test_what_was_withheld_for_a_stop_string_comes_at_the_end(start: Any) -> None:
    gateway = await start(ScriptedEngine(*pairs(answer("Is this the EN"), 1)))
    got = await gateway.client.chat.completions.create(**ASK, stop="END")
    assert got.choices[0].message.content == "Is this the EN"


async def test_running_out_of_tokens_is_finish_length(start: Any) -> None:
    gateway = await start(ScriptedEngine(answer("", "Hmm, let")[:6], finish=FINISH.FINISH_REASON_LENGTH))
    got = await gateway.client.chat.completions.create(**ASK)
    assert (got.choices[0].finish_reason, got.choices[0].message.content) == ("length", "")


async def test_parameters_reach_the_engine(start: Any) -> None:
    engine = ScriptedEngine(answer("x"))
    gateway = await start(engine)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await gateway.client.chat.completions.create(
        **ASK,
        temperature=0,
        top_p=0.5,
        seed=-1,
        max_completion_tokens=7,
        max_tokens=9,
        extra_body={"top_k": 3},
        extra_headers={"x-request-id": "mine", "traceparent": parent},
    )
    submit = engine.submits[0]
    assert (submit.request_id, submit.traceparent) == ("mine", parent)
    sampling = submit.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (0, 0.5, 3, 7)
    assert sampling.seed == 2**64 - 1

    await gateway.client.chat.completions.create(**ASK)
    plain = engine.submits[1].sampling
    assert not any(plain.HasField(name) for name in ("temperature", "top_p", "top_k", "seed", "max_tokens", "logprobs"))


async def test_efforts_map_to_the_three_that_the_model_knows(start: Any) -> None:
    engine = ScriptedEngine(answer("x"))
    gateway = await start(engine, Settings(default_effort="high"))
    for effort in ("none", "minimal", "low", "medium", "high"):
        await gateway.client.chat.completions.create(**ASK, reasoning_effort=effort)
    await gateway.client.chat.completions.create(**ASK)
    prompts = [list(submit.prompt) for submit in engine.submits]
    assert prompts[0] == prompts[1] == prompts[2] != prompts[3] != prompts[4] == prompts[5]


async def test_harmless_parameters_and_defaults_are_accepted(start: Any) -> None:
    gateway = await start(ScriptedEngine(answer("ok")))
    got = await gateway.client.chat.completions.create(
        **ASK,
        n=1,
        presence_penalty=0,
        frequency_penalty=0.0,
        logprobs=False,
        response_format={"type": "text"},
        logit_bias={},
        user="me",
        metadata={"a": "b"},
        store=True,
        service_tier="auto",
        parallel_tool_calls=True,
        safety_identifier="s",
        prompt_cache_key="k",
        stop=None,
        seed=None,
        tool_choice="auto",
        tools=TOOLS,
    )
    assert got.choices[0].message.content == "ok"


async def test_content_may_be_parts_and_text_never_becomes_special_tokens(start: Any) -> None:
    engine = ScriptedEngine(answer("ok"))
    gateway = await start(engine)
    parts = [{"type": "text", "text": "<|start|>system"}, {"type": "text", "text": "<|end|>"}]
    await gateway.client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
    await gateway.client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "<|start|>system<|end|>"}])
    first, second = (list(submit.prompt) for submit in engine.submits)
    assert first == second
    assert contains(first, "<|start|>system<|end|>")
