"""/v1/messages through Anthropic's client: streams and whole answers, thinking, tools, stop sequences, errors, counts."""

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import anthropic
import grpc
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import RawMessageStreamEvent
from pydantic import BaseModel, TypeAdapter

from ossia.common.vocabulary import encode
from router.engine import EngineError
from router.gateway.settings import Settings
from tests.fakes.scripted import CONTEXT, FINISH, MODEL, ScriptedEngine, answer, call, pairs

ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
THINK: dict[str, Any] = {"thinking": {"type": "adaptive"}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[Any] = [{"name": "weather", "description": "The sky.", "input_schema": SCHEMA}]
CALL = call("weather", '{"city":"Oslo"}', "Look it up.")


@pytest.fixture
async def connect(start: Callable) -> AsyncIterator[Callable]:
    """A client of a gateway before this engine: `client = await connect(engine)`."""
    async with AsyncExitStack() as stack:

        async def begin(engine: ScriptedEngine, settings: Settings | None = None) -> AsyncAnthropic:
            gateway = await start(engine, settings)
            client = AsyncAnthropic(base_url=gateway.url, api_key="any", max_retries=0)
            return await stack.enter_async_context(client)

        yield begin


def shown(message: Any) -> list[tuple[str, object]]:
    """Blocks as their type and what they say."""
    said = {"text": "text", "thinking": "thinking", "tool_use": "input"}
    return [(block.type, getattr(block, said[block.type])) for block in message.content]


async def test_what_a_client_calls_beta_is_answered_alike(connect: Callable) -> None:
    client = await connect(ScriptedEngine(*pairs(answer("Hello"), 3)))
    for query in ({}, {"beta": "true"}):  # which older clients say behind the path
        assert shown(await client.beta.messages.create(**ASK, extra_query=query)) == [("text", "Hello")]
        counted = await client.beta.messages.count_tokens(model=MODEL, messages=ASK["messages"], extra_query=query)
        assert counted.input_tokens > 1


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_a_stream_and_a_whole_answer_say_the_same(connect: Callable, size: int) -> None:
    tokens = answer("Hello, wörld 👋!", "Say hello.")
    client = await connect(ScriptedEngine(*pairs(tokens, size)))
    async with client.messages.stream(**ASK, **THINK) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        streamed = await stream.get_final_message()
    whole = await client.messages.create(**ASK, **THINK)
    assert text == "Hello, wörld 👋!"
    for message in (streamed, whole):
        assert shown(message) == [("thinking", "Say hello."), ("text", "Hello, wörld 👋!")]
        assert message.content[0].signature
        assert (message.stop_reason, message.stop_sequence, message.role) == ("end_turn", None, "assistant")
        assert (message.model, message.id[:4]) == (MODEL, "msg_")
        assert message.usage.cache_read_input_tokens == 2
        assert message.usage.output_tokens == len(tokens)
        assert message.usage.output_tokens_details.thinking_tokens == len(encode("Say hello."))


@pytest.mark.parametrize("tokens", [answer("Hello", "Think."), CALL], ids=["text", "call"])
async def test_events_are_those_of_the_api(connect: Callable, tokens: list[int]) -> None:
    client = await connect(ScriptedEngine(*pairs(tokens, 1)))
    async with client.messages.with_streaming_response.create(**ASK, **THINK, tools=TOOLS, stream=True) as response:
        lines = [line async for line in response.iter_lines()]
        assert response.headers["request-id"] == response.headers["x-request-id"]
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert names == [event["type"] for event in events]
    adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    for event in events:
        complete(adapter.validate_python(event, strict=True))
    assert (names[0], names[-2], names[-1]) == ("message_start", "message_delta", "message_stop")
    blocks = [event for event in events if "index" in event]
    assert [event["index"] for event in blocks] == sorted(event["index"] for event in blocks)
    for index in (0, 1):
        kinds = [event["type"].removeprefix("content_block_") for event in blocks if event["index"] == index]
        assert kinds == ["start", *["delta"] * (len(kinds) - 2), "stop"]


def complete(model: BaseModel) -> None:
    """No field that the API does not have."""
    assert not model.model_extra
    for _, value in model:
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, BaseModel):
                complete(part)


async def test_thinking_is_shown_to_those_who_ask(connect: Callable) -> None:
    engine = ScriptedEngine(*pairs(answer("Hello", "Think."), 2))
    client = await connect(engine)
    plain = await client.messages.create(**ASK)
    assert shown(plain) == [("text", "Hello")]
    assert plain.usage.output_tokens_details.thinking_tokens == len(encode("Think."))
    omitted = await client.messages.create(**ASK, thinking={"type": "adaptive", "display": "omitted"})
    assert shown(omitted) == [("thinking", ""), ("text", "Hello")]
    await client.messages.create(**ASK, thinking={"type": "enabled", "budget_tokens": 2048})
    await client.messages.create(**ASK, thinking={"type": "disabled"})
    budgets = [submit.grammar.reasoning_tokens for submit in engine.submits if submit.grammar.HasField("reasoning_tokens")]
    assert budgets == [2048, 0]


async def test_tools_make_a_round_trip(connect: Callable) -> None:
    engine = ScriptedEngine(*pairs(CALL, 1))
    client = await connect(engine)
    async with client.messages.stream(**ASK, **THINK, tools=TOOLS) as stream:
        message = await stream.get_final_message()
    assert shown(message) == [("thinking", "Look it up."), ("tool_use", {"city": "Oslo"})]
    assert message.stop_reason == "tool_use"
    use = message.content[1]
    assert shown(await client.messages.create(**ASK, **THINK, tools=TOOLS)) == shown(message)

    engine.script = tuple(pairs(answer("Rain."), 1))
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "no sky"}], "is_error": True}
    messages = [*ASK["messages"], message.to_param(), {"role": "user", "content": [result, {"type": "text", "text": "So?"}]}]
    final = await client.messages.create(model=MODEL, max_tokens=10, messages=messages, tools=TOOLS)
    assert (shown(final), final.stop_reason) == ([("text", "Rain.")], "end_turn")
    prompt = list(engine.submits[-1].prompt)
    places = [place(prompt, encode(text)) for text in ("Look it up.", '{"city":"Oslo"}', "Error: no sky", "So?")]
    assert places == sorted(places)


def place(tokens: list[int], part: list[int]) -> int:
    return next(at for at in range(len(tokens)) if tokens[at : at + len(part)] == part)


async def test_a_call_that_no_tool_takes_is_shown_as_text(connect: Callable) -> None:
    client = await connect(ScriptedEngine(call("clock", "{}")))
    for more in ({}, {"tools": TOOLS}, {"tools": TOOLS, "tool_choice": {"type": "none"}}):
        message = await client.messages.create(**ASK, **more)
        assert (shown(message), message.stop_reason) == ([("text", "{}")], "end_turn")


async def test_tool_choices_reach_the_engine(connect: Callable) -> None:
    engine = ScriptedEngine(CALL)
    client = await connect(engine)
    for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}, {"type": "auto"}):
        await client.messages.create(**ASK, tools=TOOLS, tool_choice=choice)
    required, named, auto = (submit.grammar.tool_choice for submit in engine.submits)
    assert required == named != auto
    untold = await client.messages.create(**ASK, tools=TOOLS, tool_choice={"type": "none"})
    assert shown(untold) == [("text", '{"city":"Oslo"}')]


async def test_a_second_call_is_not_made_where_one_is_wanted(connect: Callable) -> None:
    both = [*CALL[:-1], 200_007, 200_006, *encode("assistant"), *call("weather", '{"city":"Rome"}')]
    client = await connect(ScriptedEngine(*pairs(both, 4), None))
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    message = await client.messages.create(**ASK, tools=TOOLS, tool_choice=choice)
    assert (shown(message), message.stop_reason) == ([("tool_use", {"city": "Oslo"})], "tool_use")


@pytest.mark.parametrize("size", [1, 100])
async def test_stop_sequences(connect: Callable, size: int) -> None:
    client = await connect(ScriptedEngine(*pairs(answer("One two END of it", "END"), size), None))
    message = await client.messages.create(**ASK, stop_sequences=["nowhere", "END"])
    assert (shown(message), message.stop_reason, message.stop_sequence) == ([("text", "One two ")], "stop_sequence", "END")


async def test_length_is_told_apart_from_a_full_context(connect: Callable) -> None:
    engine = ScriptedEngine(answer("Hello")[:4], finish=FINISH.FINISH_REASON_LENGTH)
    client = await connect(engine)
    assert (await client.messages.create(**ASK)).stop_reason == "max_tokens"
    async with client.messages.stream(**{**ASK, "max_tokens": 64_000}) as stream:
        assert (await stream.get_final_message()).stop_reason == "model_context_window_exceeded"
    submit = engine.submits[-1]
    assert submit.sampling.max_tokens == CONTEXT - len(submit.prompt)


async def test_a_call_that_is_cut_off_says_what_it_has(connect: Callable) -> None:
    tokens = call("weather", '{"city":"Oslo","day')[:-1]
    client = await connect(ScriptedEngine(tokens, finish=FINISH.FINISH_REASON_LENGTH))
    message = await client.messages.create(**ASK, tools=TOOLS)
    assert (shown(message), message.stop_reason) == ([("tool_use", {"city": "Oslo"})], "max_tokens")


async def test_numbers_that_json_has_not_are_the_largest_it_has(connect: Callable) -> None:
    client = await connect(ScriptedEngine(call("weather", '{"a":[1e999,{"b":-1e999}],"c":2}')))
    message = await client.messages.create(**ASK, tools=TOOLS)
    largest = sys.float_info.max
    assert shown(message) == [("tool_use", {"a": [largest, {"b": -largest}], "c": 2})]


async def test_prompts_are_those_of_chats(start: Callable, connect: Callable) -> None:
    engine = ScriptedEngine(answer("ok"))
    gateway = await start(engine)
    client = await connect(engine)
    text = {"type": "text", "text": "Be <|end|> brief.", "cache_control": {"type": "ephemeral"}}
    await client.messages.create(
        **ASK,
        system=[text],
        tools=TOOLS,
        output_config={"effort": "max", "format": {"type": "json_schema", "schema": SCHEMA}},
        metadata={"user_id": "me"},
        service_tier="auto",
        extra_body={"temperature": 0.5, "top_p": 0.5, "top_k": 3},
    )
    form = {"type": "json_schema", "json_schema": {"name": "output", "schema": SCHEMA}}
    await gateway.client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "system", "content": "Be <|end|> brief."}, *ASK["messages"]],
        tools=[{"type": "function", "function": {"name": "weather", "description": "The sky.", "parameters": SCHEMA}}],
        reasoning_effort="high",
        response_format=form,
        max_tokens=100,
        temperature=0.5,
        top_p=0.5,
        extra_body={"top_k": 3},
    )
    ours, theirs = engine.submits
    theirs.request_id = ours.request_id
    assert ours == theirs


async def test_tokens_are_counted(connect: Callable) -> None:
    engine = ScriptedEngine(answer("ok"))
    client = await connect(engine)
    asked = {"model": MODEL, "messages": ASK["messages"], "system": "Be brief.", "tools": TOOLS}
    counted = await client.messages.count_tokens(**asked)
    await client.messages.create(**asked, max_tokens=5)
    assert counted.input_tokens == len(engine.submits[0].prompt)


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "'messages[0].content[0]': blocks of type 'image'"),
        ({"messages": [{"role": "user", "content": [RESULT]}]}, "'messages[0].content[0].tool_use_id': no earlier"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "cannot go on"),
        ({"messages": []}, "'messages'"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "'tools[0].type': tools of type 'bash_20250124'"),
        ({"tools": [*TOOLS, *TOOLS]}, "tools[1].name: 'weather' is declared for the second time"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "no"}}, "tool_choice.name"),
        ({"stop_sequences": [""]}, "'stop_sequences[0]'"),
        ({"stop_sequences": ["x" * 257]}, "'stop_sequences[0]'"),
        ({"temperature": 1.5}, "'temperature'"),
        ({"container": "c"}, "'container'"),
        ({"colour": "red"}, "unknown parameter: 'colour'"),
        ({"messages": [{"role": "user", "content": "word " * CONTEXT}]}, "context"),
    ],
)
async def test_mistakes_are_told_in_the_names_of_the_request(connect: Callable, change: Any, told: str) -> None:
    client = await connect(ScriptedEngine(answer("ok")))
    with pytest.raises(anthropic.BadRequestError) as caught:
        await client.messages.create(**ASK, extra_body=change)
    body: Any = caught.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
    assert told in body["error"]["message"]


REFUSALS = [
    (grpc.StatusCode.RESOURCE_EXHAUSTED, anthropic.RateLimitError, "rate_limit_error"),
    (grpc.StatusCode.UNAVAILABLE, anthropic.ServiceUnavailableError, "overloaded_error"),
    (grpc.StatusCode.DEADLINE_EXCEEDED, anthropic.DeadlineExceededError, "timeout_error"),
    (grpc.StatusCode.UNKNOWN, anthropic.InternalServerError, "api_error"),
]


@pytest.mark.parametrize(("code", "kind", "told"), REFUSALS)
async def test_refusals_of_the_engine_have_their_types(connect: Callable, code: Any, kind: Any, told: str) -> None:
    client = await connect(ScriptedEngine(EngineError(code, "no")))
    for stream in (False, True):
        with pytest.raises(kind) as caught:
            await client.messages.create(**ASK, stream=stream)
        assert caught.value.body["error"]["type"] == told


async def test_what_no_route_takes_is_refused_in_the_same_words(connect: Callable, start: Callable) -> None:
    client = await connect(ScriptedEngine(answer("ok")))
    with pytest.raises(anthropic.NotFoundError) as caught:
        await client.messages.create(**{**ASK, "model": "other"})
    assert caught.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    gateway = await start(ScriptedEngine(answer("ok")))
    for path, status in (("/v1/messages", 405), ("/v1/messages/batches", 404)):
        response = await gateway.http.get(path)
        assert (response.status_code, response.json()["type"]) == (status, "error")


async def test_an_error_in_mid_stream_is_an_event(connect: Callable) -> None:
    engine = ScriptedEngine(answer("Hello")[:4], None, EngineError(grpc.StatusCode.UNAVAILABLE, "gone"))
    client = await connect(engine)
    text = ""
    with pytest.raises(anthropic.APIStatusError, match="gone") as caught:
        async with client.messages.stream(**ASK) as stream:
            async for piece in stream.text_stream:
                text += piece
                engine.go.set()
    assert text == "Hello"
    assert caught.value.body["error"]["type"] == "overloaded_error"  # type: ignore[index]


async def test_pings_are_the_apis_and_wait_for_admission(connect: Callable) -> None:
    engine = ScriptedEngine(None, *pairs(answer("Hello"), 1))
    client = await connect(engine, Settings(admission_s=0.05, ping_s=0.05))
    async with client.messages.with_streaming_response.create(**ASK, stream=True) as response:
        lines = response.iter_lines()
        assert [await anext(lines), await anext(lines)] == ["event: ping", 'data: {"type":"ping"}']
        engine.go.set()
        assert [line async for line in lines if line.startswith("event:")][-1] == "event: message_stop"
    async with client.messages.stream(**ASK) as stream:
        assert await stream.get_final_text() == "Hello"
