"""OpenAI's Agents SDK in Python, over both of the APIs it speaks; Responses keep the state of a conversation."""

from collections.abc import AsyncIterator
from typing import Any

import agents
import openai
import pytest
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool

from tests.sdks.asked import ASKED, HELLO, STATED, TOLD, WEATHER, Place
from tests.sdks.conftest import Served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
GREEDY = ModelSettings(temperature=0, include_usage=True)


@pytest.fixture(params=[OpenAIResponsesModel, OpenAIChatCompletionsModel])
async def model(request: pytest.FixtureRequest, served: Served) -> AsyncIterator[agents.Model]:
    agents.set_tracing_disabled(True)
    async with openai.AsyncOpenAI(base_url=served.url, api_key="any", max_retries=0) as client:
        yield request.param(served.model, client)


async def test_chat(model: agents.Model) -> None:
    agent = Agent[None](name="Talker", model=model, model_settings=GREEDY)
    whole = await Runner.run(agent, HELLO)
    streamed = Runner.run_streamed(agent, HELLO)
    raw = [event.data async for event in streamed.stream_events() if event.type == "raw_response_event"]
    text = "".join(event.delta for event in raw if event.type == "response.output_text.delta")
    assert text == streamed.final_output == whole.final_output


async def test_tools(model: agents.Model) -> None:
    called: list[str] = []

    @function_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        called.append(city)
        return "sunny"

    settings = GREEDY.resolve(ModelSettings(tool_choice="required"))  # of the first turn: the SDK takes it back after a call
    agent = Agent[None](name="Helper", instructions="Answer.", model=model, tools=[get_weather], model_settings=settings)
    streamed = Runner.run_streamed(agent, WEATHER)
    events = [event async for event in streamed.stream_events()]
    names = [event.name for event in events if event.type == "run_item_stream_event"]
    assert names.index("tool_called") < names.index("tool_output")
    kinds = [event.data.type for event in events if event.type == "raw_response_event"]
    assert "response.function_call_arguments.delta" in kinds
    assert len(called) == 1 and streamed.final_output
    before, after = (response.usage.input_tokens for response in streamed.raw_responses)
    assert after > before, "the second prompt holds the call and its result"


async def test_structured_output(model: agents.Model) -> None:
    agent: Agent[Any] = Agent(name="Writer", model=model, model_settings=GREEDY, output_type=Place)
    assert isinstance((await Runner.run(agent, STATED)).final_output, Place)


@pytest.mark.parametrize("model", [OpenAIResponsesModel], indirect=True)
async def test_a_response_goes_on_from_another(served: Served, model: agents.Model) -> None:
    agent = Agent[None](name="Talker", model=model, model_settings=GREEDY)
    first = await Runner.run(agent, TOLD)
    second = await Runner.run(agent, ASKED, previous_response_id=first.last_response_id)
    (told,), (asked,) = first.raw_responses, second.raw_responses
    assert asked.usage.input_tokens > told.usage.input_tokens
    assert not served.trained or "Anna" in second.final_output
