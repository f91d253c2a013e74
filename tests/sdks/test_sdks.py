"""The clients that people have, by their base URL alone: against ossia-tiny and against the simulated engine."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agents
import anthropic
import openai
import pytest
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from tests.e2e.serving import Serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
FOLDER = Path(__file__).parent
ENGINES = {
    "ossia-tiny": ("ossia-tiny", ["--ranks=1", "--max-context=2048"]),
    "simulated": ("gpt-oss-20b", ["--ranks=1", "--engine=simulated", "--costs=0.002,0,0,0", "--kv-memory=1GiB"]),
}
WEATHER = "What is the weather in Paris?"


class Place(BaseModel):
    city: str


@pytest.fixture(scope="module", params=list(ENGINES))
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The base URL of a server, and its model's name."""
    model, arguments = ENGINES[request.param]
    serving = Serving(tmp_path_factory.mktemp("sdks"), None, "--replicas=1", *arguments, name="sdks")
    yield f"{serving.start().url}/v1", model
    assert serving.stop() == 0


@pytest.fixture(scope="module")
def packages() -> None:
    """What the scripts in node/ import."""
    if shutil.which("npm") is None:
        pytest.skip("needs Node.js and npm")
    wanted = (FOLDER / "package-lock.json").read_bytes()
    stamp = FOLDER / "node_modules" / ".installed"
    if not stamp.exists() or stamp.read_bytes() != wanted:
        subprocess.run(["npm", "ci", "--no-progress", "--loglevel=error"], cwd=FOLDER, check=True, capture_output=True)
        stamp.write_bytes(wanted)


@pytest.mark.parametrize(
    ("script", "parts"),
    [
        ("openai", ["chat", "streaming", "tools", "structured", "responses"]),
        ("agents", ["responses", "chat"]),
        ("vercel", ["openai.responses", "openai.chat"]),
    ],
)
def test_node(packages: None, served: tuple[str, str], script: str, parts: list[str]) -> None:
    command = ["node", f"node/{script}.mjs", *served]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.split()) == (0, parts), done.stderr


async def test_openai_python(served: tuple[str, str]) -> None:
    url, model = served
    async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
        hello: Any = [{"role": "user", "content": "Hello!"}]
        async with client.chat.completions.stream(model=model, messages=hello, temperature=0) as stream:
            streamed = "".join([event.delta async for event in stream if event.type == "content.delta"])
        assert streamed and (await stream.get_final_completion()).choices[0].message.content == streamed
        asked: Any = [{"role": "user", "content": "The city is Paris. Give me JSON."}]
        place = await client.chat.completions.parse(model=model, messages=asked, response_format=Place, temperature=0)
        assert isinstance(place.choices[0].message.parsed, Place)
        first = await client.responses.create(model=model, input="My name is Anna.", temperature=0)
        again: Any = {"model": model, "input": "What is my name?", "temperature": 0}
        async with client.responses.stream(**again, previous_response_id=first.id) as events:
            kinds = [event.type async for event in events]
        assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
        parsed = await client.responses.parse(
            model=model, input="The city is Paris. Give me JSON.", text_format=Place, temperature=0
        )
        assert isinstance(parsed.output_parsed, Place)
        conversation = await client.conversations.create()
        for text in ("My name is Anna.", "What is my name?"):
            answer = await client.responses.create(model=model, input=text, conversation=conversation.id, temperature=0)
            assert answer.output_text
        items = [item async for item in client.conversations.items.list(conversation.id)]
        assert sum(item.type == "message" for item in items) == 4


@pytest.mark.parametrize("api", [OpenAIResponsesModel, OpenAIChatCompletionsModel])
async def test_agents_python(served: tuple[str, str], api: Any) -> None:
    url, model = served
    called: list[str] = []

    @function_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        called.append(city)
        return "sunny"

    agents.set_tracing_disabled(True)
    async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
        agent: Agent[None] = Agent(
            name="Helper",
            instructions="Answer.",
            model=api(model, client),
            tools=[get_weather],
            model_settings=agents.ModelSettings(tool_choice="required", temperature=0),
        )
        result = await Runner.run(agent, WEATHER)
        assert len(called) == 1 and result.final_output
        streamed = Runner.run_streamed(
            Agent(name="Talker", model=api(model, client), model_settings=agents.ModelSettings(temperature=0)), "Hello!"
        )
        kinds = [event.type async for event in streamed.stream_events()]
        assert "raw_response_event" in kinds and streamed.final_output


@pytest.mark.parametrize("responses", [False, True])
async def test_langchain(served: tuple[str, str], responses: bool) -> None:
    url, model = served

    @tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"sunny in {city}"

    chat = ChatOpenAI(
        base_url=url, model=model, api_key=SecretStr("any"), max_retries=0, temperature=0, use_responses_api=responses
    )
    assert (await chat.ainvoke("Hello!")).text
    assert "".join([chunk.text async for chunk in chat.astream("Hello!")])
    asked = HumanMessage(WEATHER)
    called = await chat.bind_tools([get_weather], tool_choice="required").ainvoke([asked])
    assert isinstance(called, AIMessage)
    (call,) = called.tool_calls
    assert call["name"] == "get_weather" and list(call["args"]) == ["city"]
    result = ToolMessage(str(await get_weather.ainvoke(call["args"])), tool_call_id=call["id"])
    answer = await chat.bind_tools([get_weather]).ainvoke([asked, called, result])
    assert answer.text
    held = chat.with_structured_output(Place, method="json_schema", strict=True)
    assert isinstance(await held.ainvoke("The city is Paris. Give me JSON."), Place)
    assert json.loads(called.model_dump_json())["tool_calls"]


async def test_anthropic(served: tuple[str, str]) -> None:
    url, model = served
    tool: Any = {
        "name": "get_weather",
        "description": "The weather in a city.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": True,
    }
    async with anthropic.AsyncAnthropic(base_url=url.removesuffix("/v1"), api_key="any", max_retries=0) as client:
        hello: Any = [{"role": "user", "content": "Hello!"}]
        async with client.messages.stream(model=model, max_tokens=512, messages=hello, thinking={"type": "adaptive"}) as stream:
            streamed = "".join([text async for text in stream.text_stream])
        said = await stream.get_final_message()
        assert "".join(block.text for block in said.content if block.type == "text") == streamed
        asked: Any = [{"role": "user", "content": WEATHER}]
        options: Any = {"model": model, "max_tokens": 512, "tools": [tool]}
        called = await client.messages.create(**options, messages=asked, tool_choice={"type": "any"})
        (use,) = [block for block in called.content if block.type == "tool_use"]
        assert (use.name, list(use.input), called.stop_reason) == ("get_weather", ["city"], "tool_use")
        result: Any = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
        messages = [*asked, called.to_param(), {"role": "user", "content": [result]}]
        answer = await client.messages.create(**options, messages=messages)
        counted = await client.messages.count_tokens(model=model, messages=messages, tools=[tool])
        usage = answer.usage
        assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)
        place: Any = {"format": {"type": "json_schema", "schema": Place.model_json_schema()}}
        held = await client.messages.create(
            model=model, max_tokens=512, messages=[{"role": "user", "content": "The city is Paris."}], output_config=place
        )
        assert held.stop_reason == "max_tokens" or Place.model_validate_json(held.content[0].text)  # type: ignore[union-attr]
