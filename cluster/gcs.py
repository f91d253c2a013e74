"""Whether Ray's GCS is there: any answer of its gRPC health service is a sign of life, a refusal for want of a token too."""

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

POLL_S = 1.0
ANSWER_S = 5.0
SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def alive(address: str) -> bool:
    """Whether the GCS at host:port answers within five seconds."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest.SerializeToString)
        try:
            await check(health_pb2.HealthCheckRequest(), timeout=ANSWER_S)
        except grpc.aio.AioRpcError as error:
            return error.code() not in SILENT
    return True


async def returned(address: str) -> None:
    """Waits for as long as the GCS is away."""
    while not await alive(address):  # noqa: ASYNC110 - another process
        await asyncio.sleep(POLL_S)


async def lost(address: str) -> None:
    """Waits until the GCS does not answer."""
    while await alive(address):  # noqa: ASYNC110 - another process
        await asyncio.sleep(POLL_S)
