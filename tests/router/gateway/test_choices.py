"""Several answers to one request, log probabilities, echoed prompts, and answers that their grammar cut off."""

import asyncio
import time
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from ossia.common.vocabulary import CALL, CHANNEL, END, MESSAGE, RETURN, START, decode, encode, token_bytes
from ossia.v1 import engine_pb2
from router.engine import EngineError
from router.gateway.chat import ChatAnswer
from router.gateway.choice import copies
from router.gateway.errors import dumps
from router.gateway.generation import Source, Usage, shared, total
from router.gateway.metrics import Metrics
from router.gateway.schema_chat import ChatBody
from tests.fakes.scripted import FINISH, MODEL, ScriptedEngine, answer, call, card, likely, pairs
from tests.router.gateway.conftest import eventually

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
TEXT = "Hello, wörld 👋!"


async def chat(start: Any, engine: ScriptedEngine, stream: bool, **asked: Any) -> tuple[list[dict[str, Any]], Any]:
    """Each choice of an answer and its usage, told whole or put together from a stream."""
    gateway = await start(engine)
    if not stream:
        got = (await gateway.http.post("/v1/chat/completions", json={**ASK, **asked})).json()
        return [{**choice.pop("message"), **choice} for choice in got["choices"]], got["usage"]
    choices: dict[int, dict[str, Any]] = {}
    usage = None
    more = {"stream_options": {"include_usage": True}}
    async for chunk in await gateway.client.chat.completions.create(**ASK, extra_body={**asked, **more}, stream=True):
        usage = chunk.usage or usage
        for part in chunk.to_dict()["choices"]:
            choice = choices.setdefault(part["index"], {"content": "", "logprobs": None})
            choice["content"] += part["delta"].get("content", "")
            if told := part["logprobs"]:
                choice["logprobs"] = choice["logprobs"] or {"content": []}
                choice["logprobs"]["content"] += told["content"]
            choice |= {key: part[key] for key in ("finish_reason", "finish_details") if part.get(key)}
    return [choices[index] for index in sorted(choices)], usage.to_dict() if usage else None


class Numbered(ScriptedEngine):
    """Each request gets another answer; those that come later step later."""

    async def generate(self, submit: engine_pb2.Submit) -> Any:
        number = len(self.submits)
        self.submits.append(submit)
        self.running += 1
        try:
            tokens = answer(f"answer {number}", "Hm.")
            for index, token in enumerate(tokens):
                await asyncio.sleep(0.001 * number)
                yield engine_pb2.Delta(first_index=index, tokens=[token])
            usage = engine_pb2.Usage(cached_tokens=16 * number, drafted_tokens=2 * number + 1, accepted_tokens=1)
            yield engine_pb2.Delta(first_index=len(tokens), finish=FINISH.FINISH_REASON_STOP, usage=usage)
        finally:
            self.running -= 1


@pytest.mark.parametrize("stream", [True, False])
async def test_each_choice_is_an_answer_and_the_prompt_counts_once(start: Any, stream: bool) -> None:
    engine = Numbered()
    choices, usage = await chat(start, engine, stream, n=3)
    assert [choice["content"] for choice in choices] == ["answer 0", "answer 1", "answer 2"]
    assert {choice["finish_reason"] for choice in choices} == {"stop"}
    assert usage["prompt_tokens"] == len(engine.submits[0].prompt)
    assert usage["completion_tokens"] == 3 * len(answer("answer 0", "Hm."))
    details = usage["completion_tokens_details"]
    assert details == {
        "reasoning_tokens": 3 * len(encode("Hm.")),
        "accepted_prediction_tokens": 3,
        "rejected_prediction_tokens": 0 + 2 + 4,
    }
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}, "the first choice has computed all of it"
    assert engine.running == 0


async def test_choices_begin_in_their_order_whichever_is_first(start: Any) -> None:
    gateway = await start(Last())
    stream = await gateway.client.chat.completions.create(**ASK, n=3, stream=True)
    chunks = [choice async for chunk in stream for choice in chunk.choices]
    assert [(choice.index, choice.delta.role) for choice in chunks[:3]] == [
        (0, "assistant"),
        (1, "assistant"),
        (2, "assistant"),
    ]
    assert chunks[3].index == 2
    assert not any(choice.delta.role for choice in chunks[3:])


class Last(ScriptedEngine):
    """The last of three choices comes first."""

    async def generate(self, submit: engine_pb2.Submit) -> Any:
        self.submits.append(submit)
        if len(self.submits) < 3:
            await self.go.wait()
        for token in answer("x"):
            yield engine_pb2.Delta(tokens=[token])
        self.go.set()
        yield engine_pb2.Delta(finish=FINISH.FINISH_REASON_STOP)


async def test_choices_of_several_prompts_are_numbered_prompt_by_prompt(start: Any) -> None:
    engine = Numbered()
    gateway = await start(engine)
    got = await gateway.client.completions.create(
        model=MODEL, prompt=[[5], [6, 7]], n=2, best_of=2, extra_body={"return_token_ids": True}
    )
    assert [choice.prompt_token_ids for choice in got.choices] == [[5], [5], [6, 7], [6, 7]]
    assert [list(submit.prompt) for submit in engine.submits] == [[5], [5], [6, 7], [6, 7]]
    assert (got.usage.prompt_tokens, got.usage.prompt_tokens_details.cached_tokens) == (3, 0 + 32)


def test_usage_adds_up() -> None:
    one, two = Usage(10, 3, 1, cached=8, drafted=4, accepted=2), Usage(10, 5, 2, cached=0, drafted=1, accepted=0)
    assert shared([one, two]) == Usage(10, 8, 3, cached=0, drafted=5, accepted=2)
    assert total([one, two]) == Usage(20, 8, 3, cached=8, drafted=5, accepted=2)
    stopped = Usage(10, 2)
    assert total([shared([one, stopped]), two]).cached is None, "what one was not told of is not known of all"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("n", [1, 2])
async def test_what_the_engine_tells_at_its_end_is_not_made_up(start: Any, stream: bool, n: int) -> None:
    engine = ScriptedEngine(*pairs(answer("one two three"), 1))
    _, usage = await chat(start, engine, stream, n=n)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 2}
    assert usage["completion_tokens_details"] == {
        "reasoning_tokens": 0,
        "accepted_prediction_tokens": 3 * n,
        "rejected_prediction_tokens": 2 * n,
    }
    _, usage = await chat(start, engine, stream, stop="two", n=n)
    assert usage["prompt_tokens_details"] == {}
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 0}


async def test_a_choice_that_fails_ends_the_others(start: Any) -> None:
    engine = ScriptedEngine(answer("x")[:3], None, EngineError(grpc.StatusCode.UNAVAILABLE, "gone"))
    gateway = await start(engine)
    asking = asyncio.create_task(gateway.http.post("/v1/chat/completions", json={**ASK, "n": 3}))
    await eventually(lambda: engine.running == 3)
    engine.go.set()
    assert (await asking).status_code == 503
    assert engine.running == 0


# ------------------------------------------------------------ log probabilities


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("stream", [True, False])
async def test_log_probabilities_are_those_of_the_answers_text(start: Any, size: int, stream: bool) -> None:
    engine = ScriptedEngine(*pairs(answer(TEXT, "Greet them."), size))
    ((choice,), _) = await chat(start, engine, stream, logprobs=True, top_logprobs=2)
    entries = choice["logprobs"]["content"]
    assert b"".join(bytes(entry["bytes"]) for entry in entries).decode() == TEXT
    assert [entry["token"] for entry in entries][:1] == ["Hello"]
    for token, entry in zip(encode(TEXT), entries, strict=True):
        assert (entry["logprob"], len(entry["top_logprobs"])) == (-0.5, 2)
        assert entry["top_logprobs"][0] == {"token": entry["token"], "logprob": -0.5, "bytes": list(token_bytes(token))}
        assert entry["top_logprobs"][1]["logprob"] == -1.5


async def test_without_alternatives(start: Any) -> None:
    engine = ScriptedEngine(answer("Hi"))
    ((choice,), _) = await chat(start, engine, False, logprobs=True)
    assert choice["logprobs"] == {
        "content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}],
        "refusal": None,
    }
    assert engine.submits[0].sampling.logprobs == 0
    ((choice,), _) = await chat(start, ScriptedEngine(answer("Hi")), False)
    assert choice["logprobs"] is None


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("stream", [True, False])
async def test_they_end_with_the_token_that_completes_a_stop_string(start: Any, size: int, stream: bool) -> None:
    engine = ScriptedEngine(*pairs(answer("one two three four"), size), None)
    ((choice,), _) = await chat(start, engine, stream, logprobs=True, stop="two three")
    assert (choice["content"], choice["finish_reason"]) == ("one ", "stop")
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["one", " two", " three"]


async def test_arguments_of_calls_have_none_and_a_call_shown_as_text_has(start: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    ((choice,), _) = await chat(start, ScriptedEngine(call("f", '{"a":1}')), False, logprobs=True, tools=tools)
    assert (choice["finish_reason"], choice["logprobs"]["content"]) == ("tool_calls", [])
    ((choice,), _) = await chat(start, ScriptedEngine(call("f", '{"a":1}')), False, logprobs=True)
    assert "".join(entry["token"] for entry in choice["logprobs"]["content"]) == choice["content"] == '{"a":1}'


# ------------------------------------------------------------ echo


class Scoring(ScriptedEngine):
    """Tells the prompt's log probabilities in several deltas, as long prompts' come."""

    async def generate(self, submit: engine_pb2.Submit) -> Any:
        most = submit.sampling.prompt_logprobs
        for token in submit.prompt[1:-1]:
            yield engine_pb2.Delta(prompt_logprobs=[likely(token, -0.25, most)])
        entry = likely(submit.prompt[-1], -0.25, most)
        yield engine_pb2.Delta(prompt_logprobs=[entry], tokens=encode("x"), logprobs=[likely(encode("x")[0], -0.5, most)])
        usage = engine_pb2.Usage(prompt_tokens=len(submit.prompt), output_tokens=1)
        yield engine_pb2.Delta(first_index=1, finish=FINISH.FINISH_REASON_LENGTH, usage=usage)


@pytest.mark.parametrize("engine", [ScriptedEngine, Scoring])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_echoed_prompt_has_log_probabilities_but_for_its_first_token(start: Any, engine: Any, stream: bool) -> None:
    gateway = await start(engine(encode("x"), finish=FINISH.FINISH_REASON_LENGTH))
    asked = {
        "model": MODEL,
        "prompt": TEXT,
        "echo": True,
        "logprobs": 1,
        "max_tokens": 1,
        "extra_body": {"return_token_ids": True},
    }
    text = ""
    ids: list[int] = []
    logprobs: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    if stream:
        answers = [chunk async for chunk in await gateway.client.completions.create(**asked, stream=True)]
    else:
        answers = [await gateway.client.completions.create(**asked)]
    for part in answers:
        choice = part.choices[0]
        text, ids = text + choice.text, ids + choice.token_ids
        for name, values in logprobs.items():
            values += getattr(choice.logprobs, name)
    prompt = encode(TEXT)
    assert (text, ids) == (f"{TEXT}x", encode("x"))
    assert logprobs["token_logprobs"] == [None, *[-0.25] * (len(prompt) - 1), -0.5]
    assert logprobs["top_logprobs"][:2] == [None, {decode([prompt[1]]): -0.25}]
    for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        if not token.startswith("bytes:"):
            assert text[offset:].startswith(token)


async def test_the_first_token_is_timed_and_not_what_is_told_of_the_prompt(start: Any) -> None:
    gateway = await start(Scoring())
    ask = {"model": MODEL, "prompt": TEXT, "echo": True, "logprobs": 1, "max_tokens": 1}
    assert (await gateway.http.post("/v1/completions", json=ask)).status_code == 200
    assert gateway.metric("ossia_gateway_time_to_first_token_seconds_count") == 1
    assert gateway.metric("ossia_gateway_inter_token_seconds_count") == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_an_echo_alone(start: Any, stream: bool) -> None:
    """Control tokens are spelled, half a character is a replacement, and a stop string is looked for in the output alone."""
    engine = ScriptedEngine(encode("a"), [RETURN])
    gateway = await start(engine)
    prompt = [RETURN, *encode("STOP"), *encode("👋")[:1]]
    asked = {"model": MODEL, "prompt": prompt, "echo": True, "stop": "STOP"}
    if stream:
        chunks = [chunk async for chunk in await gateway.client.completions.create(**asked, stream=True)]
        text = "".join(chunk.choices[0].text for chunk in chunks)
    else:
        text = (await gateway.client.completions.create(**asked)).choices[0].text
    assert text == "<|return|>STOP\N{REPLACEMENT CHARACTER}a"
    assert not engine.submits[0].sampling.HasField("prompt_logprobs")


async def test_a_prompt_may_be_scored_without_any_output(start: Any) -> None:
    engine = ScriptedEngine(finish=FINISH.FINISH_REASON_LENGTH)
    gateway = await start(engine)
    got = await gateway.client.completions.create(model=MODEL, prompt="one", max_tokens=0, echo=True)
    assert (got.choices[0].text, got.choices[0].finish_reason, got.usage.completion_tokens) == ("one", "length", 0)
    assert engine.submits[0].sampling.max_tokens == 0


# ------------------------------------------------------------ ends


async def test_tokens_that_end_have_no_text_and_those_that_do_not_have(start: Any) -> None:
    (stop,) = encode("!")
    engine = ScriptedEngine([*encode("a"), RETURN, stop])
    gateway = await start(engine)
    texts = []
    for asked in ({}, {"stop_token_ids": [stop]}, {"stop_token_ids": [stop], "ignore_eos": True}):
        got = await gateway.http.post("/v1/completions", json={"model": MODEL, "prompt": "x", **asked})
        texts.append(got.json()["choices"][0]["text"])
    assert texts == ["a!", "a", "a<|return|>"]


@pytest.mark.parametrize(
    ("finish", "told"), [(FINISH.FINISH_REASON_GRAMMAR, "grammar"), (FINISH.FINISH_REASON_REPETITION, "repetition")]
)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_end_that_is_not_the_models_is_told(start: Any, stream: bool, finish: Any, told: str) -> None:
    engine = ScriptedEngine(answer('{"a":')[:-1], finish=finish)
    ((choice,), _) = await chat(start, engine, stream, response_format={"type": "json_object"})
    assert (choice["content"], choice["finish_reason"]) == ('{"a":', "length")
    assert choice["finish_details"]["type"] == told
    gateway = await start(ScriptedEngine(encode("a"), finish=finish))
    got = await gateway.client.completions.create(model=MODEL, prompt="x", stop="b")
    assert got.choices[0].to_dict()["finish_details"]["type"] == told
    assert got.choices[0].finish_reason == "length"


THOUGHT = [CHANNEL, *encode("analysis"), MESSAGE, *encode("Hm.")]


@pytest.mark.parametrize("tokens", [[*THOUGHT, RETURN], answer("", "Hm."), [RETURN], [*THOUGHT, END, START, CALL]])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_turn_without_an_answer_says_so(start: Any, stream: bool, tokens: list[int]) -> None:
    ((choice,), _) = await chat(start, ScriptedEngine(*pairs(tokens, 2)), stream)
    assert (choice["content"], choice["finish_reason"]) == ("", "stop")
    assert choice["finish_details"]["type"] == "no_answer"


@pytest.mark.parametrize(
    ("asked", "tokens", "finish", "told"),
    [
        ({"max_tokens": 4}, THOUGHT, FINISH.FINISH_REASON_LENGTH, "length"),
        ({"stop": "Hello"}, answer("Hello"), FINISH.FINISH_REASON_STOP, "stop"),
        ({"stop_token_ids": THOUGHT[-1:]}, THOUGHT, FINISH.FINISH_REASON_STOP, "stop"),
    ],
)
async def test_what_was_cut_before_its_answer_is_no_end_of_the_models(
    start: Any, asked: Any, tokens: list[int], finish: Any, told: str
) -> None:
    ((choice,), _) = await chat(start, ScriptedEngine(tokens, finish=finish), False, **asked)
    assert (choice["content"], choice["finish_reason"]) == ("", told)
    assert "finish_details" not in choice


@pytest.mark.parametrize("finish", [FINISH.FINISH_REASON_STOP, FINISH.FINISH_REASON_LENGTH])
async def test_other_ends_have_no_details(start: Any, finish: Any) -> None:
    ((choice,), _) = await chat(start, ScriptedEngine(answer("x"), finish=finish), False)
    assert "finish_details" not in choice


async def test_a_call_that_was_cut_off_is_no_call_to_act_on(start: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f", "strict": True}}]
    tokens = [CHANNEL, *encode("commentary to=functions.f "), *encode("json"), MESSAGE, *encode('{"a":')]
    engine = ScriptedEngine(tokens, finish=FINISH.FINISH_REASON_GRAMMAR)
    ((choice,), _) = await chat(start, engine, False, tools=tools)
    assert (choice["finish_reason"], choice["finish_details"]["type"]) == ("length", "grammar")
    for size in (1, 100):
        engine = ScriptedEngine(*pairs([*tokens, CALL], size))
        ((choice,), _) = await chat(start, engine, False, tools=tools)
        assert choice["finish_reason"] == "tool_calls"
        engine = ScriptedEngine(*pairs(tokens, size))
        ((choice,), _) = await chat(start, engine, False, tools=tools, stop_token_ids=tokens[-1:])
        assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("more", [{}, {"logprobs": True}, {"stop": "nowhere"}])
async def test_the_token_that_ends_is_not_shown_in_chats_either(start: Any, stream: bool, size: int, more: Any) -> None:
    tokens = answer("Hi!")[:-1]
    engine = ScriptedEngine(*pairs(tokens, size))
    ((choice,), usage) = await chat(start, engine, stream, stop_token_ids=tokens[-1:], **more)
    assert (choice["content"], choice["finish_reason"], usage["completion_tokens"]) == ("Hi", "stop", len(tokens))
    if choice["logprobs"]:
        assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["Hi"]


# ------------------------------------------------------------ many tools


def test_many_choices_of_many_tools_are_made_at_once() -> None:
    tools = [{"type": "function", "function": {"name": f"tool{place}", "strict": True}} for place in range(256)]
    body = ChatBody.parse(dumps({**ASK, "n": 128, "tools": tools}).encode())
    assert body.names is body.names
    submits = copies(body.submit([1] * 1000, card()), body.choices)
    source = Source(ScriptedEngine(), Metrics(CollectorRegistry()), "id", "", "")
    begun = time.process_time()
    ChatAnswer(source, body, submits, card())
    assert time.process_time() - begun < 0.1


def test_one_choice_is_the_request_itself() -> None:
    one = engine_pb2.Submit(prompt=[1], sampling=engine_pb2.Sampling(seed=4))
    assert copies(one, 1)[0] is one
