"""The official SDK in Python: chat, streams, tools, structured output, and the state of Responses and conversations."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.sdks.asked import ASKED, HELLO, STATED, TOLD, WEATHER, Place
from tests.sdks.conftest import Served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PARAMETERS = {**Place.model_json_schema(), "additionalProperties": False}
FUNCTION = {"name": "get_weather", "description": "The weather in a city.", "parameters": PARAMETERS, "strict": True}


@pytest.fixture
async def client(served: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=served.url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def greedy(served: Served) -> dict[str, Any]:
    return {"model": served.model, "temperature": 0}


async def test_chat(client: openai.AsyncOpenAI, greedy: dict[str, Any]) -> None:
    messages: Any = [{"role": "user", "content": HELLO}]
    whole = await client.chat.completions.create(**greedy, messages=messages)
    async with client.chat.completions.stream(**greedy, messages=messages) as stream:
        text = "".join([event.delta async for event in stream if event.type == "content.delta"])
    assert text and (await stream.get_final_completion()).choices[0].message.content == text
    assert whole.choices[0].message.content == text


async def test_tools_in_chats(client: openai.AsyncOpenAI, greedy: dict[str, Any]) -> None:
    messages: Any = [{"role": "user", "content": WEATHER}]
    tools: Any = [{"type": "function", "function": FUNCTION}]
    deltas = []
    async with client.chat.completions.stream(**greedy, messages=messages, tools=tools, tool_choice="required") as stream:
        async for event in stream:
            if event.type == "tool_calls.function.arguments.delta":
                deltas.append(event.arguments_delta)
    message = (await stream.get_final_completion()).choices[0].message
    assert message.tool_calls
    (call,) = message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", "".join(deltas))
    assert list(json.loads(call.function.arguments)) == ["city"]
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    messages += [message.model_dump(exclude_none=True), result]
    answer = await client.chat.completions.create(**greedy, messages=messages, tools=tools)
    assert answer.choices[0].message.content


async def test_tools_in_responses(client: openai.AsyncOpenAI, greedy: dict[str, Any]) -> None:
    tools: Any = [{"type": "function", **FUNCTION}]
    deltas = []
    async with client.responses.stream(**greedy, input=WEATHER, tools=tools, tool_choice="required") as stream:
        async for event in stream:
            if event.type == "response.function_call_arguments.delta":
                deltas.append(event.delta)
    response = await stream.get_final_response()
    (call,) = [item for item in response.output if item.type == "function_call"]
    assert (call.name, call.arguments) == ("get_weather", "".join(deltas))
    assert list(json.loads(call.arguments)) == ["city"]
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
    answer = await client.responses.create(**greedy, input=result, tools=tools, previous_response_id=response.id)
    assert answer.output_text


async def test_structured_output(client: openai.AsyncOpenAI, greedy: dict[str, Any]) -> None:
    messages: Any = [{"role": "user", "content": STATED}]
    place = await client.chat.completions.parse(**greedy, messages=messages, response_format=Place)
    assert isinstance(place.choices[0].message.parsed, Place)
    parsed = await client.responses.parse(**greedy, input=STATED, text_format=Place)
    assert isinstance(parsed.output_parsed, Place)


async def test_a_response_goes_on_from_another(client: openai.AsyncOpenAI, served: Served, greedy: dict[str, Any]) -> None:
    first = await client.responses.create(**greedy, input=TOLD)
    async with client.responses.stream(**greedy, input=ASKED, previous_response_id=first.id) as stream:
        kinds = [event.type async for event in stream]
    second = await stream.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert first.usage and second.usage and second.usage.input_tokens > first.usage.input_tokens
    assert not served.trained or "Anna" in second.output_text
    assert (await client.responses.retrieve(first.id)).output_text == first.output_text


async def test_a_conversation(client: openai.AsyncOpenAI, served: Served, greedy: dict[str, Any]) -> None:
    conversation = await client.conversations.create()
    for text in (TOLD, ASKED):
        answer = await client.responses.create(**greedy, input=text, conversation=conversation.id)
        assert answer.output_text
    assert not served.trained or "Anna" in answer.output_text
    items = [item async for item in client.conversations.items.list(conversation.id)]
    assert sum(item.type == "message" for item in items) == 4
