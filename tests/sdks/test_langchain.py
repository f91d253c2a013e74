"""langchain-openai, over both of the APIs it speaks; Responses keep the state of a conversation."""

import functools
import operator
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.sdks.asked import ASKED, HELLO, STATED, TOLD, WEATHER, Place
from tests.sdks.conftest import Served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def model(served: Served, **options: Any) -> ChatOpenAI:
    key = SecretStr("any")
    return ChatOpenAI(base_url=served.url, model=served.model, api_key=key, max_retries=0, temperature=0, **options)


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def chat(request: pytest.FixtureRequest, served: Served) -> ChatOpenAI:
    return model(served, use_responses_api=request.param)


async def test_chat(chat: ChatOpenAI) -> None:
    text = "".join([chunk.text async for chunk in chat.astream(HELLO)])
    assert text and (await chat.ainvoke(HELLO)).text == text


async def test_tools(chat: ChatOpenAI) -> None:
    asked = HumanMessage(WEATHER)
    chunks = [chunk async for chunk in chat.bind_tools([get_weather], tool_choice="required").astream([asked])]
    called = functools.reduce(operator.add, chunks)
    assert isinstance(called, AIMessageChunk)
    assert sum(isinstance(chunk, AIMessageChunk) and bool(chunk.tool_call_chunks) for chunk in chunks) > 1
    (call,) = called.tool_calls
    assert (call["name"], list(call["args"])) == ("get_weather", ["city"])
    result = ToolMessage(str(await get_weather.ainvoke(call["args"])), tool_call_id=call["id"])
    answer = await chat.bind_tools([get_weather]).ainvoke([asked, called, result])
    assert answer.text


async def test_structured_output(chat: ChatOpenAI) -> None:
    held = chat.with_structured_output(Place, method="json_schema", strict=True)
    assert isinstance(await held.ainvoke(STATED), Place)


async def test_a_response_goes_on_from_another(served: Served) -> None:
    chat = model(served, use_previous_response_id=True)
    first = await chat.ainvoke(TOLD)
    second = await chat.ainvoke([HumanMessage(TOLD), first, HumanMessage(ASKED)])
    assert first.usage_metadata and second.usage_metadata
    assert second.usage_metadata["input_tokens"] > first.usage_metadata["input_tokens"]
    assert not served.trained or "Anna" in second.text
    async with openai.AsyncOpenAI(base_url=served.url, api_key="any", max_retries=0) as client:
        kept = await client.responses.retrieve(second.response_metadata["id"])
        sent = [item async for item in client.responses.input_items.list(kept.id)]
    assert kept.previous_response_id == first.response_metadata["id"]
    assert len(sent) == 1, "LangChain sends what is new alone"
