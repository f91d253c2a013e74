"""A router behind gRPC: an engine like any other, alone, in a chain and as a process."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ossia.common import wire
from ossia.common.errors import UserError
from ossia.common.wire import FRAME_TOKENS
from ossia.v1 import engine_pb2, engine_pb2_grpc, fleet_pb2
from ossia.v1.engine_pb2 import (
    FINISH_REASON_CANCELLED,
    FINISH_REASON_LENGTH,
    Cancel,
    ClientFrame,
    Credit,
    Delta,
    EngineFrame,
    Sampling,
    Submit,
    TokenLogprobs,
    WatchKvRequest,
    WatchLoadRequest,
)
from router import replica
from router.client import EngineClient
from router.deltas import merge
from router.engine import EngineError
from router.fleet import FleetSource
from router.fleet_static import StaticFleet
from router.router import Router, RouterOptions
from router.server import RouterConfig, run
from router.service import RouterService
from router.session import Session
from tests.fakes.engine import FakeEngine, undisturbed
from tests.fakes.fleet import FakeFleet, entry
from tests.router.gateway.conftest import eventually


def submit(seed: int = 7, max_tokens: int = 40, **fields: object) -> Submit:
    return Submit(prompt=[1, 2, 3], sampling=Sampling(seed=seed, max_tokens=max_tokens), **fields)  # type: ignore[arg-type]


async def collect(deltas: AsyncIterator[Delta]) -> list[int]:
    result: list[int] = []
    async for delta in deltas:
        assert delta.first_index == len(result)
        result.extend(delta.tokens)
    return result


@asynccontextmanager
async def served(
    *addresses: str, wait: bool = True, source: FleetSource | None = None, **options: float
) -> AsyncIterator[tuple[str, RouterService]]:
    """A router over the addresses, or the source, behind gRPC."""
    fleet = source or (StaticFleet(addresses) if addresses else FakeFleet())
    router = Router(fleet, options=RouterOptions(stall_floor_s=2, **options))  # type: ignore[arg-type]
    service = RouterService(router)
    server, _ = wire.server(None)
    engine_pb2_grpc.add_EngineServicer_to_server(service, server)
    address = wire.bind(server, "127.0.0.1", 0)
    await server.start()
    await router.start()
    if wait:
        await asyncio.wait_for(router.wait_ready(), 10)
    try:
        yield address, service
    finally:
        await server.stop(0)
        await router.close()


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[EngineClient]:
    client = EngineClient(address, stall_floor_s=2)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def test_router_is_an_engine() -> None:
    async with FakeEngine() as engine, served(engine.address) as (address, _), connected(address) as client:
        requests = [submit(n, request_id=f"r{n}", traceparent="00-1-2-3", tenant="t", priority=n) for n in range(10)]
        results = await asyncio.gather(*(collect(client.generate(request)) for request in requests))
        assert results == [undisturbed(request) for request in requests]
        seen = {s.request_id: (s.traceparent, s.tenant, s.priority) for s in engine.submits}
        assert seen == {f"r{n}": ("00-1-2-3", "t", n) for n in range(10)}
        assert (await client.describe()).model_names == ["fake"]
        assert client.load.kv_tokens_total == 1 << 16


async def test_chain_of_routers_survives_an_engine() -> None:
    engines = [FakeEngine(), FakeEngine()]
    async with (
        engines[0],
        engines[1],
        served(*(engine.address for engine in engines)) as (inner, _),
        served(inner) as (outer, _),
        connected(outer) as client,
    ):
        running = [asyncio.create_task(collect(client.generate(submit(n, max_tokens=300)))) for n in range(6)]
        await asyncio.gather(*(e.until(lambda e=e: e.running == 3 and e.generated > 30) for e in engines))  # type: ignore[misc]
        await engines[0].kill()
        assert await asyncio.gather(*running) == [undisturbed(submit(n, max_tokens=300)) for n in range(6)]
        assert {tuple(s.resume.tokens) != () for s in engines[1].submits} == {True, False}


async def test_chain_of_routers_tells_of_the_prompt_once() -> None:
    engines = [FakeEngine(), FakeEngine()]
    prompt = [n % 100 for n in range(400)]
    async with (
        engines[0],
        engines[1],
        served(*(engine.address for engine in engines)) as (inner, _),
        served(inner) as (outer, _),
        connected(outer) as client,
    ):
        request = Submit(prompt=prompt, sampling=Sampling(seed=1, max_tokens=5, prompt_logprobs=0), cache_salt=b"salt")
        request.grammar.json_schema = "{}"
        got = Delta()
        async for delta in client.generate(request):
            assert (delta.first_index, delta.first_prompt_logprob) == (len(got.tokens), len(got.prompt_logprobs))
            if not got.prompt_logprobs:
                for engine in engines:
                    engine.break_sessions()
            merge(got, delta)
        assert list(got.tokens) == undisturbed(request)
        assert [score.logprob for score in got.prompt_logprobs] == [-token / 8 for token in prompt[1:]]
        asked = [submit for engine in engines for submit in engine.asked]
        assert max(submit.resume.prompt_logprobs for submit in asked) > 0
        assert all((submit.cache_salt, submit.grammar) == (b"salt", request.grammar) for submit in asked)


async def test_outer_router_survives_an_inner_one() -> None:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(FakeEngine())
        spare, _ = await stack.enter_async_context(served(engine.address))
        inner = await stack.enter_async_context(AsyncExitStack())
        victim, _ = await inner.enter_async_context(served(engine.address))
        outer, _ = await stack.enter_async_context(served(victim, spare))
        client = await stack.enter_async_context(connected(outer))
        running = [asyncio.create_task(collect(client.generate(submit(n, max_tokens=400)))) for n in range(4)]
        await engine.until(lambda: engine.running == 4 and engine.generated > 30)
        await inner.aclose()
        assert await asyncio.gather(*running) == [undisturbed(submit(n, max_tokens=400)) for n in range(4)]
        assert any(s.resume.tokens for s in engine.submits)


async def test_what_an_inner_routers_queue_has_no_room_for_waits_in_the_outer_ones() -> None:
    async with FakeEngine() as engine:
        fleet = FakeFleet(entry(engine))
        async with (
            served(source=fleet, queue_bound=1) as (inner, service),
            served(inner) as (outer, _),
            connected(outer) as client,
        ):
            fleet.push()
            await engine.until(lambda: engine.sessions == 0)
            waiting = [asyncio.create_task(collect(client.generate(submit(n)))) for n in range(3)]
            await eventually(lambda: client.load.waiting == 3)  # one in the inner router, two in the outer one
            assert service._router.queued == 1
            fleet.push(entry(engine))
            assert await asyncio.gather(*waiting) == [undisturbed(submit(n)) for n in range(3)]


async def test_a_request_that_waited_in_vain_in_one_router_goes_to_another() -> None:
    async with FakeEngine() as engine, FakeEngine() as lost:
        fleet = FakeFleet(entry(lost))
        async with (
            served(source=fleet, queue_wait_s=0.2) as (empty, service),
            served(engine.address) as (full, _),
            served(empty, full, queue_wait_s=0.2) as (outer, chooser),
            connected(outer) as client,
        ):
            await eventually(lambda: len(chooser._router._roster.ready()) == 2)
            fleet.push()
            await service._router.wait_ready(False)
            running = [asyncio.create_task(collect(client.generate(submit(n)))) for n in range(4)]
            assert await asyncio.gather(*running) == [undisturbed(submit(n)) for n in range(4)]
            assert len(engine.asked) == 4


async def test_ranks_behind_a_router_are_known_as_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "REFRESH_S", 0.05)
    async with FakeEngine() as engine:

        def with_rank(pid: int) -> fleet_pb2.Replica:
            known = entry(engine, "a")
            known.ranks.add(rank=0, pid=pid)
            return known

        fleet = FakeFleet(with_rank(5))
        async with served(source=fleet) as (inner, _):
            router = Router(StaticFleet([inner]))
            await router.start()
            await asyncio.wait_for(router.wait_ready(), 10)
            for pid in (5, 6):
                fleet.push(with_rank(pid))
                await eventually(lambda pid=pid: [rank.pid for each in router.replicas() for rank in each.ranks] == [pid])  # type: ignore[misc]
            await router.close()


async def test_cancel_reaches_the_engine_through_two_routers() -> None:
    async with FakeEngine() as engine, served(engine.address) as (inner, _), served(inner) as (outer, _):
        async with connected(outer) as client:
            deltas = client.generate(submit(max_tokens=100_000))
            await anext(deltas)
            await deltas.aclose()
            await engine.until(lambda: engine.running == 0)
            kept = client.generate(submit(max_tokens=100_000))
            await anext(kept)
            assert engine.running == 1
        await engine.until(lambda: engine.running == 0)  # the client is gone


class Raw:
    """A session written by hand."""

    def __init__(self, address: str) -> None:
        self._channel = wire.channel(address, None)
        self._call = engine_pb2_grpc.EngineStub(self._channel).Session()

    async def __aenter__(self) -> "Raw":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._call.cancel()
        await self._channel.close()

    async def send(self, **fields: object) -> None:
        await self._call.write(ClientFrame(**fields))  # type: ignore[arg-type]

    async def frame(self) -> EngineFrame:
        frame = await asyncio.wait_for(self._call.read(), 5)
        assert isinstance(frame, EngineFrame)
        return frame

    async def deltas(self, tokens: int) -> list[Delta]:
        """Deltas until there are that many tokens, or an end."""
        result: list[Delta] = []
        while sum(len(d.tokens) for d in result) < tokens and not (result and result[-1].WhichOneof("end")):
            result.extend((await self.frame()).deltas)
        return result


async def test_credits() -> None:
    async with FakeEngine() as engine, served(engine.address) as (address, _), Raw(address) as raw:
        await raw.send(submits=[submit(max_tokens=30, rid=5, credit_tokens=4)])
        got = await raw.deltas(4)
        await engine.until(lambda: engine.generated == 30)
        frame = await raw.frame()  # a beat: nothing without credit
        assert not frame.deltas
        await raw.send(credits=[Credit(rid=5, tokens=20)])
        got += await raw.deltas(20)
        assert sum(len(d.tokens) for d in got) == 24
        await raw.send(credits=[Credit(rid=5, tokens=20)])
        got += await raw.deltas(20)
        assert [t for d in got for t in d.tokens] == undisturbed(submit(max_tokens=30))
        assert {d.rid for d in got} == {5} and got[-1].HasField("finish")


async def test_cancel_is_answered() -> None:
    async with FakeEngine() as engine, served(engine.address) as (address, _), Raw(address) as raw:
        await raw.send(submits=[submit(max_tokens=100_000, rid=5)])
        await raw.deltas(3)
        await raw.send(cancels=[Cancel(rid=5), Cancel(rid=6)])
        got = await raw.deltas(1 << 30)
        assert got[-1].finish == FINISH_REASON_CANCELLED
        assert got[-1].usage.output_tokens == got[-1].first_index
        await engine.until(lambda: engine.running == 0)


async def test_nothing_follows_a_cancel() -> None:
    async def endless(_: Submit) -> AsyncGenerator[Delta, None]:
        for index in count():
            yield Delta(first_index=index, tokens=[index])

    async def frames() -> AsyncIterator[ClientFrame]:
        yield ClientFrame(submits=[submit(rid=5)])
        await asyncio.sleep(0)  # a delta waits for its frame when the cancel comes
        yield ClientFrame(cancels=[Cancel(rid=5)])
        await asyncio.Event().wait()

    session = Session(SimpleNamespace(generate=endless))
    reader = asyncio.create_task(session.read(frames()))
    deltas: list[Delta] = []
    async with asyncio.timeout(5):
        async for frame in session.frames():
            deltas.extend(frame.deltas)
            if any(delta.HasField("finish") for delta in deltas):
                break
    assert deltas[-1].finish == FINISH_REASON_CANCELLED
    reader.cancel()


async def test_frames_are_bounded_and_the_prompt_waits_for_no_credit() -> None:
    count = FRAME_TOKENS // 2 + 1
    asked = asyncio.Event()

    async def echoing(submit: Submit) -> AsyncGenerator[Delta, None]:
        delta = Delta(tokens=[1, 2], logprobs=[TokenLogprobs(), TokenLogprobs()], finish=FINISH_REASON_LENGTH)
        delta.prompt_logprobs.extend([TokenLogprobs(logprob=-1)] * count)
        yield delta

    async def frames() -> AsyncIterator[ClientFrame]:
        yield ClientFrame(submits=[submit(rid=rid, credit_tokens=0) for rid in range(6)])
        await asked.wait()
        yield ClientFrame(credits=[Credit(rid=rid, tokens=2) for rid in range(6)])
        await asyncio.Event().wait()

    session = Session(SimpleNamespace(generate=echoing))
    reader = asyncio.create_task(session.read(frames()))
    deltas: list[Delta] = []
    async with asyncio.timeout(20):
        async for frame in session.frames():
            assert sum(len(delta.prompt_logprobs) for delta in frame.deltas) <= FRAME_TOKENS + count
            deltas.extend(frame.deltas)
            if len(deltas) == 6:
                asked.set()
            if len(deltas) == 12:
                break
    assert all(len(delta.prompt_logprobs) == count and not delta.tokens for delta in deltas[:6])
    assert all(list(delta.tokens) == [1, 2] and delta.first_prompt_logprob == count for delta in deltas[6:])
    reader.cancel()


async def test_our_own_failure_ends_the_request_alone() -> None:
    async def broken(submit: Submit) -> AsyncGenerator[Delta, None]:
        if submit.rid == 5:
            raise ZeroDivisionError
        yield Delta(tokens=[1], finish=FINISH_REASON_LENGTH)

    async def frames() -> AsyncIterator[ClientFrame]:
        yield ClientFrame(submits=[submit(rid=5), submit(rid=6)])
        await asyncio.Event().wait()

    session = Session(SimpleNamespace(generate=broken))
    reader = asyncio.create_task(session.read(frames()))
    ends: dict[int, Delta] = {}
    async with asyncio.timeout(5):
        async for frame in session.frames():
            ends.update({delta.rid: delta for delta in frame.deltas})
            if len(ends) == 2:
                break
    assert EngineError.from_status(ends[5].error).code is grpc.StatusCode.INTERNAL
    assert ends[6].finish == FINISH_REASON_LENGTH
    reader.cancel()


async def test_rid_in_use() -> None:
    async with FakeEngine(step_s=None) as engine, served(engine.address) as (address, _), Raw(address) as raw:
        await raw.send(submits=[submit(rid=5), submit(rid=5)])
        error = EngineError.from_status((await raw.deltas(1))[-1].error)
        assert (error.code, error.field) == (grpc.StatusCode.INVALID_ARGUMENT, "rid")


async def test_steps_move_while_a_request_waits_for_a_replica() -> None:
    async with served(wait=False) as (address, _), Raw(address) as raw:
        await raw.send(submits=[submit(rid=5)])
        first, second = await raw.frame(), await raw.frame()
        assert first.load.waiting == 1 and second.step > first.step and second.epoch == first.epoch


async def test_deltas_of_one_step_share_a_frame() -> None:
    async with FakeEngine(step_s=None) as engine, served(engine.address) as (address, _), Raw(address) as raw:
        await raw.send(submits=[submit(n, rid=n) for n in range(1, 17)])
        await engine.until(lambda: engine.running == 16)
        engine.step()
        frame = await raw.frame()
        while not frame.deltas:
            frame = await raw.frame()
        assert len(frame.deltas) == 16


async def test_load_is_summed_and_pushed() -> None:
    async with (
        FakeEngine() as one,
        FakeEngine() as two,
        served(one.address, two.address) as (address, _),
        wire.channel(address, None) as channel,
        connected(address) as client,
    ):
        loads = aiter(engine_pb2_grpc.EngineStub(channel).WatchLoad(WatchLoadRequest(min_interval_ms=10)))
        assert (await anext(loads)).tokens_generated == 0
        await asyncio.gather(*(collect(client.generate(submit(n))) for n in range(4)))
        async for load in loads:
            if load.tokens_generated == 4 * 40 and not load.running:  # told though no request of ours runs any more
                break
        assert load.kv_tokens_total == 2 << 16


async def test_what_is_not_built() -> None:
    async with served(wait=False) as (address, _), wire.channel(address, None) as channel:
        stub = engine_pb2_grpc.EngineStub(channel)
        for call in (stub.WatchKv(WatchKvRequest()), stub.Drain(empty_pb2.Empty())):
            with pytest.raises(aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_describe_without_replicas() -> None:
    async with served(wait=False) as (address, _):
        client = EngineClient(address)
        with pytest.raises(EngineError) as caught:
            await client.start()
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        await client.close()


async def test_drain_finishes_what_runs_and_refuses_the_rest() -> None:
    async with FakeEngine(step_s=None) as engine, served(engine.address) as (address, service), connected(address) as client:
        running = asyncio.create_task(collect(client.generate(submit())))
        await engine.until(lambda: engine.running == 1)
        service.drain()
        with pytest.raises(EngineError) as caught:
            await collect(client.generate(submit()))
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "STOPPING")
        engine.step_s = 0.001
        engine.resume()
        assert await running == undisturbed(submit())


MAIN = "import sys; from router.server import RouterConfig, run; run(RouterConfig(*sys.argv[1:3], int(sys.argv[3]), token='t'))"


@asynccontextmanager
async def process(fleet: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAIN, fleet, "127.0.0.1", "0", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    line = (await asyncio.wait_for(child.stdout.readline(), 30)).decode()
    try:
        yield child, line.split()[3].rstrip(",")
    finally:
        if child.returncode is None:
            os.kill(child.pid, signal.SIGKILL)
        await child.communicate()


async def health_of(channel: aio.Channel) -> AsyncIterator[int]:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    async for answer in stub.Watch(health_pb2.HealthCheckRequest()):
        yield answer.status


async def test_process_serves_and_stops_in_order() -> None:
    async with FakeEngine(cluster_token="t") as engine, process(f"static:{engine.address}") as (child, address):
        async with wire.channel(address, None) as stranger:
            async for status in health_of(stranger):  # health needs no token
                if status == health_pb2.HealthCheckResponse.SERVING:
                    break
        async with wire.channel(address, "t") as channel:
            card = await engine_pb2_grpc.EngineStub(channel).Describe(engine_pb2.DescribeRequest())
            (own,) = card.processes
            assert (own.part, own.pid) == ("router", child.pid)
            stubs: Any = reflection_pb2_grpc
            questions = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            answer = await anext(aiter(stubs.ServerReflectionStub(channel).ServerReflectionInfo(questions)))
            assert "ossia.v1.Engine" in {service.name for service in answer.list_services_response.service}
        client = EngineClient(address, "t")
        await client.start()
        running = asyncio.create_task(collect(client.generate(submit(max_tokens=400))))
        await engine.until(lambda: engine.running == 1)
        child.send_signal(signal.SIGTERM)
        assert await running == undisturbed(submit(max_tokens=400))
        assert await asyncio.wait_for(child.wait(), 10) == 0
        await client.close()


def test_no_token_beyond_loopback() -> None:
    with pytest.raises(UserError, match="OSSIA_TOKEN"):
        run(RouterConfig("127.0.0.1:1", host="0.0.0.0"))


def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="in use"):
        run(RouterConfig("127.0.0.1:1", port=taken.getsockname()[1]))
