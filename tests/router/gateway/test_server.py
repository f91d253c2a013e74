"""The gateway as a process, in front of a real gRPC engine: boot, discovery, an orderly end."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from ossia.common.errors import UserError
from router.gateway.server import GatewayConfig, listen, run
from tests.fakes.engine import FakeEngine

PATIENCE_S = 60.0
PROGRAM = """
import sys
from pathlib import Path
from router.gateway.server import GatewayConfig, run
run(GatewayConfig(fleet=sys.argv[1], port=0, grace_s=float(sys.argv[2]), log_folder=Path(sys.argv[3])))
"""


class Process:
    """One gateway process."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, logs: Path) -> None:
        self.process = process
        self.url = url
        self._logs = logs

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self._logs / "gateway.jsonl").read_text().splitlines()]


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine(step_s=None, generate=lambda prompt, seed, position: 100 + position) as engine:
        yield engine


async def begin(engine: FakeEngine, logs: Path, grace_s: float) -> Process:
    arguments = (f"static:{engine.address}", str(grace_s), str(logs))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    url = line.strip().removeprefix("ossia gateway on ")
    async with httpx.AsyncClient(base_url=url) as http, asyncio.timeout(PATIENCE_S):
        while (await http.get("/ready")).status_code != 200:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    return Process(process, url, logs)


async def test_it_serves_then_finishes_what_is_in_flight_and_exits_with_0(engine: FakeEngine, tmp_path: Path) -> None:
    gateway = await begin(engine, tmp_path, grace_s=20)
    client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0)
    async with client, httpx.AsyncClient(base_url=gateway.url) as http:
        targets = (await http.get("/metrics/targets")).json()
        assert {target["labels"]["part"] for target in targets} == {"gateway", "rank"}
        assert "ossia_router_requests" in (await http.get("/metrics")).text

        stream = await _stream(client, engine)
        gateway.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            while (await http.get("/ready")).status_code != 503:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        refused = await http.post("/v1/completions", json={"model": "fake", "prompt": [1]})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")

        for _ in range(4):
            engine.step()
        tokens: list[int] = sum([chunk.choices[0].token_ids async for chunk in stream], [])
        assert tokens == [101, 102, 103, 104]
    assert await asyncio.wait_for(gateway.process.wait(), PATIENCE_S) == 0
    requests = [line for line in gateway.log() if line["message"] == "request"]
    assert [(line["status"], line.get("output_tokens")) for line in requests] == [(503, None), (200, 5)]


async def test_what_outlives_the_grace_is_cut(engine: FakeEngine, tmp_path: Path) -> None:
    gateway = await begin(engine, tmp_path, grace_s=0.2)
    client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0)
    async with client:
        stream = await _stream(client, engine)
        gateway.process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIConnectionError):
            [chunk async for chunk in stream]
    assert await asyncio.wait_for(gateway.process.wait(), PATIENCE_S) == 0
    await engine.until(lambda: not engine.running)


async def _stream(client: openai.AsyncOpenAI, engine: FakeEngine) -> Any:
    """A stream of five tokens, the first of which has come."""
    more = {"return_token_ids": True}
    asking = asyncio.create_task(
        client.completions.create(model="fake", prompt=[1, 2], max_tokens=5, stream=True, extra_body=more)
    )
    await engine.until(lambda: engine.running == 1)
    engine.step()
    stream = await asking
    first = await anext(stream)
    assert first.model_dump()["choices"][0]["token_ids"] == [100]
    return stream


async def test_what_follows_the_status_line_is_not_held_back() -> None:
    accepted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
        writer.close()

    bound = listen("127.0.0.1", 0)
    async with await asyncio.start_server(note, sock=bound):
        _, writer = await asyncio.open_connection(*bound.getsockname())
        assert await accepted
        writer.close()


def test_it_listens_on_loopback_unless_told_otherwise() -> None:
    assert GatewayConfig(fleet="static:127.0.0.1:1").host == "127.0.0.1"


def test_a_port_in_use_is_the_users_error() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} on 127.0.0.1 is in use"):
            run(GatewayConfig(fleet="static:127.0.0.1:1", port=port))


@pytest.mark.parametrize(("host", "fleet"), [("no.such.host.invalid", "static:127.0.0.1:1"), ("127.0.0.1", "nonsense")])
def test_other_mistakes_are_the_users_too(host: str, fleet: str) -> None:
    with pytest.raises(UserError):
        run(GatewayConfig(fleet=fleet, host=host, port=0))
