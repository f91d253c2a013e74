"""Several gateway processes on one port, in front of a real gRPC engine."""

import asyncio
import errno
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ossia.common.errors import UserError
from router.gateway import member as members
from router.gateway.exposition import OPENMETRICS, PROMETHEUS
from router.gateway.member import Member
from router.gateway.processes import Processes
from router.gateway.seat import Shared
from router.gateway.server import GatewayConfig, run
from tests.fakes.engine import FakeEngine

COUNT = 2
PATIENCE_S = 60.0
PROGRAM = """
import sys
from pathlib import Path
from router.gateway.server import GatewayConfig, run
from router.store.config import StoreConfig
fleet, logs, processes = sys.argv[1:]
store = StoreConfig(f"sqlite:///{logs}/store.db")
run(GatewayConfig(fleet, port=0, grace_s=20, log_folder=Path(logs), processes=int(processes), store=store))
"""
ASK = {"model": "fake", "prompt": [1, 2], "max_tokens": 3}


class Gateway:
    """The parent process and what runs under it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, logs: Path) -> None:
        self.process = process
        self.url = url
        self._logs = logs

    def members(self) -> list[psutil.Process]:
        """Those that serve: multiprocessing has a helper beside them."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    def pids(self) -> list[int]:
        """Of the processes that answered requests with 200, one entry a request."""
        lines = [json.loads(line) for line in (self._logs / "gateway.jsonl").read_text().splitlines()]
        return [line["pid"] for line in lines if line["message"] == "request" and line["status"] == 200]

    async def ask(self, count: int = 1) -> None:
        """Each over a connection of its own, as it is connections that are spread."""
        for _ in range(count):
            async with httpx.AsyncClient(base_url=self.url) as http, asyncio.timeout(PATIENCE_S):
                while (await http.post("/v1/completions", json=ASK)).status_code != 200:  # noqa: ASYNC110 - 503: no engine yet
                    await asyncio.sleep(0.05)

    async def metrics(self) -> dict[str, float]:
        """The samples without labels, and requests that were answered with 200."""
        async with httpx.AsyncClient(base_url=self.url) as http:
            text = (await http.get("/metrics")).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        ours = {"route": "/v1/completions", "status": "200"}
        return {sample.name: sample.value for sample in samples if not sample.labels or sample.labels == ours}


@asynccontextmanager
async def serving(logs: Path) -> AsyncIterator[Gateway]:
    async with FakeEngine() as engine:
        arguments = (f"static:{engine.address}", str(logs), str(COUNT))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", PROGRAM, *arguments),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "XDG_STATE_HOME": str(logs)},  # of the database
        )
        assert process.stdout
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        gateway = Gateway(process, line.decode().strip().removeprefix("ossia gateway on "), logs)
        try:
            yield gateway
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.wait(), PATIENCE_S)


async def test_all_serve_any_tells_the_metrics_of_all_and_a_stop_lets_requests_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        assert len(gateway.members()) == COUNT
        await gateway.ask(20)
        assert len(set(gateway.pids())) == COUNT, "one of them had all of 20 connections"
        for _ in range(6):
            told = await gateway.metrics()
            assert told["ossia_gateway_requests_total"] == 20
            assert told["ossia_gateway_output_tokens_total"] == 60
        await both_formats_are_told_at_once(gateway)
        async with httpx.AsyncClient(base_url=gateway.url) as http:
            targets = (await http.get("/metrics/targets")).json()
        assert targets[0]["labels"] == {"part": "gateway", "pid": str(gateway.process.pid)}
        port = int(gateway.url.rsplit(":", 1)[1])
        for processes in (1, COUNT):
            with pytest.raises(UserError, match=f"port {port} on 127.0.0.1 is in use"):
                run(GatewayConfig(fleet="static:127.0.0.1:1", port=port, processes=processes))
        await stop_amid_a_stream(gateway)


async def both_formats_are_told_at_once(gateway: Gateway) -> None:
    kinds = ["application/openmetrics-text", "text/plain"] * 4
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        told = await asyncio.gather(*(http.get("/metrics", headers={"accept": kind}) for kind in kinds))
    assert [answer.headers["content-type"].partition(";")[0] for answer in told] == kinds
    assert [answer.text.endswith("# EOF\n") for answer in told] == [True, False] * 4


async def stop_amid_a_stream(gateway: Gateway) -> None:
    members = gateway.members()
    long = {**ASK, "max_tokens": 300, "stream": True}
    async with httpx.AsyncClient(base_url=gateway.url) as http, http.stream("POST", "/v1/completions", json=long) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        gateway.process.send_signal(signal.SIGTERM)
        rest = [line async for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert await asyncio.wait_for(gateway.process.wait(), PATIENCE_S) == 0
    await gone(members)


async def gone(members: list[psutil.Process]) -> None:
    _, alive = await asyncio.to_thread(psutil.wait_procs, members, PATIENCE_S)
    assert not alive


async def test_one_that_dies_is_replaced_and_no_counter_falls_and_all_end_with_their_parent(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.ask(20)
        before = await gateway.metrics()
        victim = gateway.members()[0]
        victim.kill()
        await asyncio.to_thread(victim.wait, 10)
        await gateway.ask(10)
        during = await gateway.metrics()
        assert during["ossia_gateway_requests_total"] == 30
        assert during["process_cpu_seconds_total"] >= before["process_cpu_seconds_total"]
        async with asyncio.timeout(PATIENCE_S):
            while len(set(gateway.pids())) <= COUNT:
                await gateway.ask()
        after = await gateway.metrics()
        assert after["ossia_gateway_requests_total"] == len(gateway.pids())
        assert after["ossia_gateway_process_restarts_total"] == 1
        assert len(gateway.members()) == COUNT
        members = gateway.members()
        gateway.process.kill()
        await gone(members)


def _mistaken(seat: Shared) -> None:
    raise UserError("it has no database")


def _dies(seat: Shared) -> None:
    os._exit(3)


def _stuck(seat: Shared) -> None:
    async def serve() -> None:
        await seat.serving("http://nowhere")
        signal.pause()  # and never looks at its event loop again

    asyncio.run(serve())


def _asks(seat: Shared) -> None:
    async def serve() -> None:
        await seat.serving("http://nowhere")
        forms = [OPENMETRICS, PROMETHEUS]
        told = await asyncio.gather(*map(seat.metrics, forms))
        os._exit(0 if told == [form.media_type.encode() for form in forms] else 1)

    asyncio.run(serve())


async def _nothing(media_type: str) -> str:
    return ""


async def test_what_a_process_cannot_start_with_is_the_operators_mistake() -> None:
    with pytest.raises(UserError, match="it has no database"):
        await Member(_mistaken, stop_s=5).start(_nothing)


async def test_a_process_that_ends_before_it_serves_is_no_success() -> None:
    with pytest.raises(UserError, match="ended before it served"):
        await Member(_dies, stop_s=5).start(_nothing)


async def test_answers_are_found_at_once_and_come_in_the_order_of_the_questions() -> None:
    both_begun, last_found = asyncio.Barrier(2), asyncio.Event()

    async def answer(media_type: str) -> str:
        await both_begun.wait()
        if media_type == PROMETHEUS.media_type:
            last_found.set()
        await last_found.wait()
        return media_type

    member = Member(_asks, stop_s=5)
    await member.start(answer)
    assert await asyncio.wait_for(member.ended(), PATIENCE_S) == 0


async def test_a_stuck_process_tells_nothing_new_and_is_killed() -> None:
    member = Member(_stuck, stop_s=0.2)
    await member.start(_nothing)
    assert await member.tell() == ""
    await member.stop()
    assert not psutil.pid_exists(member.pid)


async def test_a_host_that_is_out_of_processes_ends_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes(_stuck, 1, grace_s=0.2)
    (member,) = processes._members
    await member.start(_nothing)
    tried, again = asyncio.Event(), asyncio.Event()

    def full(*_: object) -> None:
        (again if tried.is_set() else tried).set()
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(members, "_spawn", full)
    keeping = asyncio.create_task(processes._keep(member))
    os.kill(member.pid, signal.SIGKILL)
    await asyncio.wait({keeping, asyncio.ensure_future(again.wait())}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    assert again.is_set() and not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await member.stop()
