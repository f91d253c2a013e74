"""A leader's life: health, reflection, token, load, stop and failure."""

import asyncio
import json
import logging
from threading import Semaphore
from typing import Any, cast

import grpc
import pytest
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ossia.common import wire
from ossia.common.errors import UserError
from ossia.v1 import engine_pb2
from tests.fakes.runner import FakeRunner, generate
from tests.workers.leader.harness import LIMITS, Client, Server, eventually, health_becomes, serving

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def health(address: str, service: str) -> int:
    async with wire.channel(address, None) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


async def test_health_follows_the_first_token_and_the_end() -> None:
    gate = Semaphore(0)
    server = Server(FakeRunner(LIMITS.kv_blocks, LIMITS.block_size, gate), LIMITS, None)
    starting = asyncio.create_task(server.leader.start())
    await eventually(lambda: server.runner.plans)
    address = server.leader.address
    assert [await health(address, name) for name in ("", "ossia.v1.Engine")] == [NOT_SERVING] * 2
    server.address = address
    assert not (await server.stub().Describe(engine_pb2.DescribeRequest())).ready
    gate.release()
    assert await starting == address
    assert [await health(address, name) for name in ("", "ossia.v1.Engine")] == [SERVING] * 2
    card = await server.stub().Describe(engine_pb2.DescribeRequest())
    assert (card.ready, card.epoch, list(card.model_names)) == (True, 7, ["fake"])
    await server.stop()
    with pytest.raises(grpc.aio.AioRpcError):
        await health(address, "")
    assert server.runner.closed


async def test_reflection_lists_what_is_served() -> None:
    async with serving() as server, wire.channel(server.address, None) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast(Any, channel))
        request = cast(Any, reflection_pb2).ServerReflectionRequest(list_services="")
        async for answer in stub.ServerReflectionInfo(iter([request])):
            names = {service.name for service in answer.list_services_response.service}
        assert {"ossia.v1.Engine", "grpc.health.v1.Health"} <= names


async def test_what_is_not_built_says_so() -> None:
    async with serving() as server:
        assert await server.stub().Drain(empty_pb2.Empty()).code() == grpc.StatusCode.UNIMPLEMENTED


async def test_beyond_loopback_there_must_be_a_token() -> None:
    with pytest.raises(UserError, match="token"):
        wire.require_token("0.0.0.0", None)
    async with serving(token="secret") as server:
        call = server.stub().Describe(engine_pb2.DescribeRequest())
        assert await call.code() == grpc.StatusCode.UNAUTHENTICATED
        assert (await server.stub("secret").Describe(engine_pb2.DescribeRequest())).ready
        client = Client(server.stub("secret"))
        await client.submit(1, [5], max_tokens=3)
        await client.finish(1)
        assert client.tokens(1) == generate([5], 3)


async def test_a_port_in_use_is_the_users_to_mend() -> None:
    async with serving() as server:
        other = Server(FakeRunner(4, 4), LIMITS, None)
        other.leader._listen = ("127.0.0.1", int(server.address.rpartition(":")[2]))
        with pytest.raises(UserError, match="in use"):
            await other.leader.start()


async def test_load_is_pushed_at_once_and_at_changes_alone() -> None:
    gate = Semaphore(0)
    async with serving(gate) as server:
        call = server.stub().WatchLoad(engine_pb2.WatchLoadRequest(min_interval_ms=1))
        first = cast(engine_pb2.Load, await call.read())
        assert (first.step, first.running, first.kv_tokens_total) == (1, 0, LIMITS.kv_tokens)
        following = asyncio.ensure_future(call.read())
        await asyncio.sleep(0.05)
        assert not following.done()
        client = Client(server.stub())
        await client.submit(1, [5, 6, 7], max_tokens=3)
        gate.release()
        second = cast(engine_pb2.Load, await asyncio.wait_for(following, 10))
        assert (second.step, second.running, second.tokens_generated) == (2, 1, 2)
        gate.release(2)


async def test_load_is_pushed_no_more_often_than_asked() -> None:
    async with serving() as server:
        call = server.stub().WatchLoad(engine_pb2.WatchLoadRequest(min_interval_ms=10_000))
        await call.read()
        client = Client(server.stub())
        await client.submit(1, [5], max_tokens=20)
        await client.finish(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call.read(), 0.1)


async def test_stop_lets_what_runs_end_and_refuses_the_rest() -> None:
    gate = Semaphore(0)
    async with serving(gate) as server:
        client = Client(server.stub())
        await client.submit(1, [5], max_tokens=4)
        gate.release()
        await client.until(lambda: client.tokens(1))
        stopping = asyncio.create_task(server.leader.stop(30.0))
        await health_becomes(server.address, NOT_SERVING)
        await client.submit(2, [6])
        await client.finish(2)
        assert client.last(2).error.code == grpc.StatusCode.UNAVAILABLE.value[0]
        gate.release(10)
        await client.finish(1)
        assert client.tokens(1) == generate([5], 4)
        await asyncio.wait_for(stopping, 10)


async def test_stop_without_grace_ends_requests_for_another_to_resume() -> None:
    gate = Semaphore(0)
    async with serving(gate) as server:
        client = Client(server.stub())
        await client.submit(1, [5], max_tokens=400)
        gate.release()
        await client.until(lambda: client.tokens(1))
        stopping = asyncio.create_task(server.leader.stop(0.0))
        await eventually(lambda: server.heard)
        gate.release()
        await client.finish(1)
        assert client.last(1).error.code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert client.tokens(1) == generate([5], len(client.tokens(1)))
        await asyncio.wait_for(stopping, 10)


async def test_a_lost_rank_ends_every_request_and_the_health() -> None:
    gate = Semaphore(0)
    async with serving(gate, fail_at=5) as server:
        client = Client(server.stub())
        for rid in range(1, 4):
            await client.submit(rid, [rid], max_tokens=400, credit_tokens=1)
        await eventually(lambda: server.received == 3)
        gate.release(100)
        await client.finish(1, 2, 3)
        for rid in range(1, 4):
            assert client.last(rid).error.code == grpc.StatusCode.UNAVAILABLE.value[0]
        await health_becomes(server.address, NOT_SERVING)
        with pytest.raises(RuntimeError, match="a rank is lost"):
            server.leader.engine.done.result(0)
        assert await server.stub().Session().code() == grpc.StatusCode.UNAVAILABLE


async def test_a_replica_that_cannot_generate_does_not_start() -> None:
    server = Server(FakeRunner(LIMITS.kv_blocks, LIMITS.block_size, fail_at=0), LIMITS, None)
    with pytest.raises(RuntimeError, match="a rank is lost"):
        await server.leader.start()
    await server.stop()


async def test_a_model_that_computes_no_numbers_does_not_start() -> None:
    server = Server(FakeRunner(LIMITS.kv_blocks, LIMITS.block_size), LIMITS, None)
    server.runner.broken = frozenset({1})
    with pytest.raises(UserError, match="not finite numbers: the checkpoint is broken"):
        await asyncio.wait_for(server.leader.start(), 10)
    await server.stop()


async def test_a_request_without_finite_logits_fails_alone() -> None:
    async with serving() as server:
        server.runner.broken = frozenset({66})
        client = Client(server.stub())
        await client.submit(1, [5, 66], max_tokens=5)
        await client.submit(2, [5, 6], max_tokens=5)
        await client.finish(1, 2)
        assert client.last(1).error.code == grpc.StatusCode.INTERNAL.value[0]
        assert "not finite" in client.last(1).error.message
        assert client.tokens(2) == generate([5, 6], 5)
        assert server.metric("requests_total", finish="logits_not_finite") == 1


async def test_logs_count_and_never_quote(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="workers.leader.journal")
    async with serving() as server:
        client = Client(server.stub())
        await client.submit(1, [71, 72, 73], max_tokens=2, request_id="req-1")
        await client.submit(2, [], request_id="req-2")
        await client.finish(1, 2)
    records = {(record.message, record.__dict__["request_id"]): record.__dict__ for record in caplog.records}
    finished = records["request finished", "req-1"]
    assert (finished["prompt_tokens"], finished["output_tokens"], finished["finish"]) == (3, 2, "length")
    assert finished["duration_s"] >= finished["first_token_s"] > 0
    assert records["request refused", "req-2"]["reason"] == "EMPTY_PROMPT"
    assert ("request received", "req-1") in records
    assert not any("71" in json.dumps(str(record.args)) for record in caplog.records)
