"""Completions through the official client: raw prompts, token ids in and out, log probabilities, several prompts."""

import asyncio
from typing import Any

import grpc
import pytest

from ossia.common.vocabulary import RETURN, decode, encode
from ossia.v1 import engine_pb2
from router.engine import EngineError
from tests.fakes.scripted import CONTEXT, FINISH, MODEL, ScriptedEngine, pairs
from tests.router.gateway.conftest import eventually

WAVE = "wörld 👋!"


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("stream", [True, False])
async def test_token_ids_go_in_and_out(start: Any, size: int, stream: bool) -> None:
    output = [*encode(WAVE), RETURN]
    engine = ScriptedEngine(*pairs(output, size))
    gateway = await start(engine)
    prompt = [200_006, *encode("user"), 200_008, 17]
    options: dict[str, Any] = {"model": MODEL, "prompt": prompt, "extra_body": {"return_token_ids": True}}
    if stream:
        usage = {"stream_options": {"include_usage": True}}
        chunks = [chunk async for chunk in await gateway.client.completions.create(**options, **usage, stream=True)]
        *pieces, last = chunks
        assert pieces[0].choices[0].prompt_token_ids == prompt
        assert all(piece.choices[0].prompt_token_ids is None for piece in pieces[1:])
        assert sum((piece.choices[0].token_ids for piece in pieces), []) == output
        assert "".join(piece.choices[0].text for piece in pieces) == WAVE
        assert pieces[-1].choices[0].finish_reason == "stop"
        assert (last.choices, last.usage.completion_tokens) == ([], len(output))
    else:
        got = await gateway.client.completions.create(**options)
        choice = got.choices[0]
        assert (choice.prompt_token_ids, choice.token_ids, choice.text) == (prompt, output, WAVE)
        assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (len(prompt), len(output))
        assert (got.object, choice.finish_reason) == ("text_completion", "stop")
    assert list(engine.submits[0].prompt) == prompt


async def test_prompt_text_is_ordinary_text_and_16_tokens_are_the_default(start: Any) -> None:
    engine = ScriptedEngine(encode("a"), finish=FINISH.FINISH_REASON_LENGTH)
    gateway = await start(engine)
    got = await gateway.client.completions.create(model=MODEL, prompt="<|start|>user")
    assert list(engine.submits[0].prompt) == encode("<|start|>user")
    assert engine.submits[0].sampling.max_tokens == 16
    assert got.choices[0].finish_reason == "length"
    await gateway.client.completions.create(model=MODEL, prompt=[1] * (CONTEXT - 5))
    assert engine.submits.pop().sampling.max_tokens == 5
    assert not hasattr(got.choices[0], "token_ids")
    await gateway.client.completions.create(model=MODEL, prompt="a", max_tokens=5, extra_body={"top_k": -1})
    assert (engine.submits[1].sampling.max_tokens, engine.submits[1].sampling.top_k) == (5, 0)


@pytest.mark.parametrize("prompt", [["one", "two two", "three"], [[1], [2, 3], [4]]])
@pytest.mark.parametrize("stream", [True, False])
async def test_each_of_several_prompts_is_a_choice(start: Any, prompt: Any, stream: bool) -> None:
    engine = ScriptedEngine(*pairs([*encode("a b c"), RETURN], 1))
    gateway = await start(engine)
    texts = ["", "", ""]
    if stream:
        async for chunk in await gateway.client.completions.create(model=MODEL, prompt=prompt, stream=True):
            texts[chunk.choices[0].index] += chunk.choices[0].text
    else:
        got = await gateway.client.completions.create(model=MODEL, prompt=prompt, seed=5)
        for choice in got.choices:
            texts[choice.index] += choice.text
        assert got.usage.prompt_tokens == sum(len(submit.prompt) for submit in engine.submits)
        assert {submit.sampling.seed for submit in engine.submits} == {5}
    assert texts == ["a b c"] * 3
    assert engine.running == 0


async def test_one_prompt_that_fails_ends_the_others(start: Any) -> None:
    engine = ScriptedEngine(encode("a"), None, EngineError(grpc.StatusCode.UNAVAILABLE, "gone"))
    gateway = await start(engine)
    asking = asyncio.create_task(gateway.http.post("/v1/completions", json={"model": MODEL, "prompt": ["x", "y"]}))
    await eventually(lambda: engine.running == 2)
    engine.go.set()
    assert (await asking).status_code == 503
    assert engine.running == 0


async def test_logprobs_have_one_entry_a_token(start: Any) -> None:
    output = [*encode(WAVE), RETURN]
    engine = ScriptedEngine(*pairs(output, 2))
    gateway = await start(engine)
    got = await gateway.client.completions.create(model=MODEL, prompt="x", logprobs=2)
    logprobs = got.choices[0].logprobs
    assert len(logprobs.tokens) == len(output)
    assert logprobs.token_logprobs == [-0.5] * len(output)
    assert all(len(top) == 2 for top in logprobs.top_logprobs)
    assert logprobs.tokens[-1] == decode([RETURN])
    assert any(token.startswith("bytes:\\x") for token in logprobs.tokens), logprobs.tokens
    for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        if not token.startswith(("bytes:", "<|")):
            assert WAVE[offset:].startswith(token)


class Unlikely(ScriptedEngine):
    """Generates a token that is none of the most likely ones."""

    def _delta(self, submit: engine_pb2.Submit, index: int, tokens: list[int]) -> engine_pb2.Delta:
        most_likely = range(1000, 1000 + submit.sampling.logprobs)
        entry = engine_pb2.TokenLogprobs(logprob=-9.0, top_ids=most_likely, top_logprobs=[-0.5] * len(most_likely))
        return engine_pb2.Delta(first_index=index, tokens=tokens, logprobs=[entry])


@pytest.mark.parametrize("most", [0, 2])
async def test_top_logprobs_have_the_chosen_token_too(start: Any, most: int) -> None:
    gateway = await start(Unlikely(encode("a")))
    got = await gateway.client.completions.create(model=MODEL, prompt="x", logprobs=most)
    (top,) = got.choices[0].logprobs.top_logprobs
    assert top == {**{decode([1000 + rank]): -0.5 for rank in range(most)}, "a": -9.0}


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_a_stop_string_ends_text_and_token_ids_at_the_same_token(start: Any, size: int) -> None:
    output = encode("one two three four five")
    engine = ScriptedEngine(*pairs(output, size), None)
    gateway = await start(engine)
    got = await gateway.client.completions.create(
        model=MODEL, prompt="x", stop=[" three fo"], extra_body={"return_token_ids": True}
    )
    assert (got.choices[0].text, got.choices[0].finish_reason) == ("one two", "stop")
    assert decode(got.choices[0].token_ids) == "one two three four"
    assert got.usage.completion_tokens == len(got.choices[0].token_ids)
    await asyncio.wait_for(engine.left.wait(), 5)


async def test_half_a_character_at_the_end_is_a_replacement(start: Any) -> None:
    gateway = await start(ScriptedEngine(encode("👋")[:1], finish=FINISH.FINISH_REASON_LENGTH))
    got = await gateway.client.completions.create(model=MODEL, prompt="x")
    assert got.choices[0].text == "\N{REPLACEMENT CHARACTER}"
