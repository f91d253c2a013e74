"""Two gateway processes on one database: one conversation, and responses whose gateway is killed, in their middle or after."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from ossia.common.vocabulary import MESSAGE, RETURN, SIZE
from router.gateway.server import GatewayConfig
from tests.fakes.engine import FakeEngine
from tests.fakes.postgres import postgres_server
from tests.fakes.scripted import answer
from tests.router.gateway.responses.conftest import read
from tests.router.gateway.responses.test_create import contains

TEXT = "This is an answer of some length, which one gateway begins and another one ends."
OUTPUT = answer(TEXT, "Think of what to say.")
PROGRAM = f"""
import sys
from router.gateway.server import {GatewayConfig.__name__}, run
from router.store.config import StoreConfig
run({GatewayConfig.__name__}(fleet=sys.argv[1], port=0, grace_s=1, store=StoreConfig(database=sys.argv[2])))
"""
ASK: dict[str, Any] = {"model": "fake", "input": "Hi", "extra_body": {"stop_token_ids": [RETURN]}}


class Model(FakeEngine):
    """Writes one answer, a token a step, in gpt-oss's vocabulary."""

    async def Describe(self, request: Any, context: Any) -> Any:
        card = await super().Describe(request, context)
        card.vocab_size = SIZE
        return card


class Gateway:
    """A gateway process, and a client of it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=30)

    @property
    def responses(self) -> Any:
        return self.client.responses

    async def events(self, id_: str, after: int) -> list[dict[str, Any]]:
        asked = self.responses.with_streaming_response.retrieve(id_, stream=True, starting_after=after)
        async with asked as answered:
            return read([line async for line in answered.iter_lines()])


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield f"{url}/postgres"


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A URL of PostgreSQL, or as a parameter of SQLite, which gateways of one host share."""
    if getattr(request, "param", "postgres") == "sqlite":
        return f"sqlite:///{tmp_path}/gateways.db"
    url: str = request.getfixturevalue("postgres")
    return url


@pytest.fixture
async def engine() -> AsyncIterator[Model]:
    model = Model(step_s=0.001, default_length=99, generate=lambda prompt, seed, position: OUTPUT[position])
    async with model:
        yield model


@pytest.fixture
async def gateways(engine: Model, database: str) -> AsyncIterator[list[Gateway]]:
    async with AsyncExitStack() as stack:
        started = [await _start(engine, database) for _ in range(2)]
        for gateway in started:
            await stack.enter_async_context(gateway.client)
        yield started
        for gateway in started:
            if gateway.process.returncode is None:
                gateway.process.kill()
            await gateway.process.communicate()


async def _start(engine: Model, database: str) -> Gateway:
    arguments = ("-c", PROGRAM, f"static:{engine.address}", database)
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    gateway = Gateway(process, line.strip().removeprefix("ossia gateway on "))
    async with asyncio.timeout(30):
        while not await _ready(gateway):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    return gateway


async def _ready(gateway: Gateway) -> bool:
    try:
        return bool((await gateway.client.models.list()).data)
    except openai.InternalServerError:
        return False


async def test_one_conversation_on_two_gateways(engine: Model, gateways: list[Gateway]) -> None:
    first, second = gateways
    conversation = (await first.client.conversations.create(metadata={"a": "b"})).id
    said = await second.responses.create(**ASK, conversation=conversation)
    assert said.output_text == TEXT
    again = await first.responses.create(**{**ASK, "input": "And now?"}, conversation=conversation)
    for text in ("Hi", TEXT, "And now?"):
        assert contains(list(engine.asked[-1].prompt), text)
    kinds = [item.type async for item in second.client.conversations.items.list(conversation, order="asc")]
    assert kinds == ["message", "reasoning", "message"] * 2
    chained = await second.responses.create(**{**ASK, "input": "Once more."}, previous_response_id=again.id)
    assert chained.output_text == TEXT
    assert (await first.responses.retrieve(chained.id)).output_text == TEXT


@pytest.mark.parametrize("database", ["postgres", "sqlite"], indirect=True)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_client_was_answered_outlives_the_gateway(engine: Model, gateways: list[Gateway], stream: bool) -> None:
    maker, other = gateways
    if stream:
        async with await maker.responses.create(**ASK, stream=True) as events:
            told = await anext(event.response async for event in events if event.type == "response.completed")
            maker.process.kill()
    else:
        told = await maker.responses.create(**ASK)
        maker.process.kill()
    kept = await other.responses.retrieve(told.id)
    assert kept.model_dump() == told.model_dump()
    assert (kept.status, kept.output_text) == ("completed", TEXT)
    await other.responses.create(**{**ASK, "input": "And now?"}, previous_response_id=told.id)
    assert contains(list(engine.asked[-1].prompt), TEXT)


async def test_a_response_outlives_the_gateway_that_made_it(engine: Model, gateways: list[Gateway]) -> None:
    maker, other = gateways
    engine.stall()
    other.process.send_signal(signal.SIGSTOP)  # so that the first one claims it
    made = await maker.responses.create(**ASK, background=True)
    await engine.until(lambda: engine.running == 1)
    other.process.send_signal(signal.SIGCONT)
    for _ in range(OUTPUT.index(MESSAGE, 3) + 5):
        engine.step()
    seen: list[dict[str, Any]] = []
    stream = await other.responses.retrieve(made.id, stream=True)
    async for event in stream:
        seen.append(event.model_dump(mode="json"))
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    maker.process.kill()
    await engine.until(lambda: not engine.running)
    engine.resume()
    events = await asyncio.wait_for(other.events(made.id, seen[-1]["sequence_number"]), 30)
    final = events[-1]["response"]
    assert (final["status"], final["output"][1]["content"][0]["text"]) == ("completed", TEXT)
    told = [event["delta"] for event in [*seen, *events] if event["type"] == "response.output_text.delta"]
    assert "".join(told) == TEXT
    begun, resumed = engine.asked[-2:]
    assert 0 < len(resumed.resume.tokens) < len(OUTPUT)
    assert (list(begun.prompt), begun.sampling.seed) == (list(resumed.prompt), resumed.sampling.seed)
    assert final == (await other.client.get(f"/responses/{made.id}", cast_to=dict[str, Any]))
