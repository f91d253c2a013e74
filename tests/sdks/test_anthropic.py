"""Anthropic's client: streams of thinking, text and tools, structured output, counts."""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest

from tests.sdks.asked import HELLO, STATED, WEATHER, Place
from tests.sdks.conftest import Served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TOOL: Any = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": Place.model_json_schema(),
    "strict": True,
}
GREEDY: Any = {"max_tokens": 512, "extra_body": {"temperature": 0}}  # which newer models of Anthropic's do not take
THINK: Any = {**GREEDY, "thinking": {"type": "adaptive"}}


@pytest.fixture
async def client(served: Served) -> AsyncIterator[anthropic.AsyncAnthropic]:
    url = served.url.removesuffix("/v1")
    async with anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as client:
        yield client


async def read(stream: anthropic.AsyncMessageStreamManager[Any]) -> tuple[list[str], Any]:
    """The types of what the blocks grow by, in their order, and the whole message."""
    async with stream as events:
        kinds: list[str] = [event.delta.type async for event in events if event.type == "content_block_delta"]
        return kinds, await events.get_final_message()


async def test_thinking_is_streamed_before_text(client: anthropic.AsyncAnthropic, served: Served) -> None:
    messages: Any = [{"role": "user", "content": HELLO}]
    kinds, said = await read(client.messages.stream(model=served.model, messages=messages, **THINK))
    assert [block.type for block in said.content] == ["thinking", "text"]
    assert (kinds[0], kinds[-1]) == ("thinking_delta", "text_delta")
    assert said.usage.output_tokens_details.thinking_tokens > 0


async def test_a_tool_is_called_and_answers(client: anthropic.AsyncAnthropic, served: Served) -> None:
    asked: Any = [{"role": "user", "content": WEATHER}]
    options: Any = {"model": served.model, "tools": [TOOL], **THINK}
    kinds, called = await read(client.messages.stream(**options, messages=asked, tool_choice={"type": "any"}))
    assert kinds[0] == "thinking_delta" and "input_json_delta" in kinds
    (use,) = [block for block in called.content if block.type == "tool_use"]
    assert (use.name, list(use.input), called.stop_reason) == ("get_weather", ["city"], "tool_use")
    result: Any = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
    messages = [*asked, called.to_param(), {"role": "user", "content": [result]}]
    kinds, answer = await read(client.messages.stream(**options, messages=messages))
    assert "text_delta" in kinds
    counted = await client.messages.count_tokens(model=served.model, messages=messages, tools=[TOOL])
    assert counted.input_tokens == answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)


async def test_structured_output(client: anthropic.AsyncAnthropic, served: Served) -> None:
    form: Any = {"format": {"type": "json_schema", "schema": Place.model_json_schema()}}
    messages: Any = [{"role": "user", "content": STATED}]
    held = await client.messages.create(model=served.model, messages=messages, output_config=form, **GREEDY)
    (block,) = held.content
    assert block.type == "text"
    assert Place.model_validate_json(block.text)
