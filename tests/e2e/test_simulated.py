"""`ossia serve --engine simulated` as its users see it, where torch cannot be imported by any of its processes."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest

from tests.e2e.serving import Serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
MODEL = "gpt-oss-20b"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
BOOKING = {
    "type": "object",
    "properties": {
        "seat": {"type": "integer", "minimum": 7, "maximum": 9},
        "code": {"type": "string", "pattern": "^[A-Z]{3}$"},
    },
    "required": ["seat", "code"],
}
ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "safetensors", "huggingface_hub", "tqdm"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Two replicas whose steps take 20 ms."""
    folder = tmp_path_factory.mktemp("simulated")
    (folder / "sitecustomize.py").write_text(ABSENT)
    arguments = ("--engine=simulated", "--replicas=2", "--ranks=1", "--costs=0.02,0,0,0", "--kv-memory=1GiB")
    serving = Serving(folder, None, *arguments, name="simulated")
    serving.environment["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    serving.start()
    yield serving
    assert serving.stop() == 0


@pytest.fixture(scope="module")
def client(simulated: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{simulated.url}/v1", api_key="unused", max_retries=0, timeout=120)


def test_an_agent_loop(client: openai.OpenAI) -> None:
    """It reasons, calls the tool once, and answers with what the tool told."""
    tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER, "strict": True}}]
    messages: Any = [{"role": "user", "content": "What is the weather in Stockholm?"}]
    calls = client.chat.completions.create(model=MODEL, messages=messages, tools=tools).choices[0].message.tool_calls
    assert calls
    (call,) = calls
    assert call.type == "function"
    assert list(json.loads(call.function.arguments)) == ["city"]
    messages += [
        {"role": "assistant", "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "sunny and 20 degrees"},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    assert answer.choices[0].finish_reason == "stop"
    assert "sunny and 20 degrees" in (answer.choices[0].message.content or "")


def test_arguments_fit_the_whole_schema_of_a_tool_that_is_not_strict(client: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", "function": {"name": "book", "parameters": BOOKING}}]
    message: Any = {"role": "user", "content": "Book a seat."}
    calls = client.chat.completions.create(model=MODEL, messages=[message], tools=tools).choices[0].message.tool_calls
    assert calls and calls[0].type == "function"
    jsonschema.validate(json.loads(calls[0].function.arguments), BOOKING)


def test_the_examples_show_an_answer_and_what_a_tool_returned(simulated: Serving) -> None:
    assert "\033[2m" in simulated.example("chat", "Say something in 20 words").stdout
    shown = simulated.example("tools", "What is the weather in Trento?")
    assert shown.stderr.startswith("get_weather({")
    assert '"celsius": 21' in shown.stdout


def test_a_schema_is_satisfied(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 5}}, "required": ["n"]}
    held: Any = {"type": "json_schema", "json_schema": {"name": "number", "strict": True, "schema": schema}}
    message: Any = {"role": "user", "content": "A number"}
    answer = client.chat.completions.create(model=MODEL, messages=[message], response_format=held)
    assert json.loads(answer.choices[0].message.content or "")["n"] in (3, 4, 5)


def test_a_killed_replica_is_not_seen_by_the_client(simulated: Serving, client: openai.OpenAI) -> None:
    """What comes after kill -9 in mid-stream is what would have come."""

    def stream() -> Iterator[str]:
        prompt = "Tell me of it in 150 words"
        for chunk in client.completions.create(model=MODEL, prompt=prompt, max_tokens=170, seed=5, stream=True):
            yield chunk.choices[0].text if chunk.choices else ""

    undisturbed = "".join(stream())
    pieces = stream()
    text = "".join(next(pieces) for _ in range(5))
    busy = next(replica for replica in simulated.status()["replicas"] if replica["load"] and replica["load"]["running"])
    os.kill(busy["ranks"][0]["pid"], signal.SIGKILL)
    assert text + "".join(pieces) == undisturbed
    assert len(undisturbed.split()) == 150


def test_status_says_what_it_is(simulated: Serving) -> None:
    shown = simulated.run("status", f"--name={simulated.name}").stdout
    assert "attention simulated" in shown


def test_no_process_has_torch_in_its_memory(simulated: Serving) -> None:
    for pids in simulated.pids().values():
        for pid in pids:
            assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()
