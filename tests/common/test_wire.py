"""The conventions of the gRPC: statuses there and back, tokens, addresses."""

import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ossia.common import wire
from ossia.common.errors import UserError
from ossia.v1 import engine_pb2, engine_pb2_grpc
from router.engine import EngineError
from tests.fakes.engine import FakeEngine


@pytest.mark.parametrize("retry_after_s", [None, 0.0, 2.5])
def test_status_there_and_back(retry_after_s: float | None) -> None:
    error = EngineError(
        grpc.StatusCode.INVALID_ARGUMENT, "too long", reason="CONTEXT_LENGTH", field="prompt", retry_after_s=retry_after_s
    )
    back = EngineError.from_status(error.status())
    assert vars(back) == vars(error)


def test_plain_status() -> None:
    status = wire.status(grpc.StatusCode.UNAVAILABLE, "no")
    assert (status.code, status.message, len(status.details)) == (14, "no", 0)


async def calls(address: str, token: str | None) -> AsyncIterator[grpc.StatusCode]:
    """The outcome of a call of every shape."""
    async with wire.channel(address, token) as channel:
        stub = engine_pb2_grpc.EngineStub(channel)

        async def frames() -> AsyncIterator[engine_pb2.ClientFrame]:
            yield engine_pb2.ClientFrame(submits=[engine_pb2.Submit(rid=1, prompt=[1])])

        async def first(call: AsyncIterator[object]) -> None:
            await anext(call)

        for attempt in (
            lambda: stub.Describe(engine_pb2.DescribeRequest()),
            lambda: first(aiter(stub.WatchLoad(engine_pb2.WatchLoadRequest()))),
            lambda: first(aiter(stub.Session(frames()))),
        ):
            try:
                await attempt()
                yield grpc.StatusCode.OK
            except aio.AioRpcError as error:
                yield error.code()


@pytest.mark.parametrize(
    "demanded, given, code",
    [
        ("a", "a", grpc.StatusCode.OK),
        (None, "a", grpc.StatusCode.OK),
        (None, None, grpc.StatusCode.OK),
        ("a", None, grpc.StatusCode.UNAUTHENTICATED),
        ("a", "b", grpc.StatusCode.UNAUTHENTICATED),
    ],
)
async def test_token(demanded: str | None, given: str | None, code: grpc.StatusCode) -> None:
    async with FakeEngine(cluster_token=demanded) as engine:
        assert [outcome async for outcome in calls(engine.address, given)] == [code] * 3


async def test_unknown_method_with_a_token() -> None:
    async with FakeEngine(cluster_token="a") as engine, wire.channel(engine.address, "a") as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/ossia.v1.Engine/Nothing", empty_pb2.Empty.SerializeToString)(empty_pb2.Empty())
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_needs_no_token() -> None:
    async with FakeEngine(cluster_token="a") as engine, wire.channel(engine.address, None) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("host, loopback", [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.8.9.1", True)])
def test_loopback(host: str, loopback: bool) -> None:
    assert wire.is_loopback(host) is loopback
    wire.require_token(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", ""])
def test_beyond_loopback_a_token_is_needed(host: str) -> None:
    assert not wire.is_loopback(host)
    wire.require_token(host, "t")
    for missing in (None, ""):
        with pytest.raises(UserError, match="OSSIA_TOKEN"):
            wire.require_token(host, missing)


async def test_bind() -> None:
    server, _ = wire.server(None)
    address = wire.bind(server, "127.0.0.1", 0)
    assert address.startswith("127.0.0.1:") and not address.endswith(":0")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="in use"):
        wire.bind(server, "127.0.0.1", taken.getsockname()[1])
    await server.stop(0)
