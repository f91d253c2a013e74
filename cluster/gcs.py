"""Whether Ray's GCS is there, asked without Ray: what is to be done when it is not must not wait for it, as Ray does."""

import asyncio
from typing import Any

import grpc

POLL_S = 1.0
ANSWER_S = 5.0
SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def alive(address: str) -> bool:
    """Whether the GCS at host:port answers within five seconds."""
    return await _answer(address, "/grpc.health.v1.Health/Check") not in SILENT


async def demands_token(address: str) -> bool:
    """Whether the GCS at host:port refuses who presents none, as it does but for health checks."""
    return await _answer(address, "/ray.rpc.NodeInfoGcsService/GetClusterId") == grpc.StatusCode.UNAUTHENTICATED


async def _answer(address: str, method: str) -> grpc.StatusCode:
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call: Any = channel.unary_unary(method)
        try:
            await call(b"", timeout=ANSWER_S)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def returned(address: str) -> None:
    """Waits for as long as the GCS is away."""
    while not await alive(address):  # noqa: ASYNC110 - another process
        await asyncio.sleep(POLL_S)


async def lost(address: str) -> None:
    """Waits until the GCS does not answer."""
    while await alive(address):  # noqa: ASYNC110 - another process
        await asyncio.sleep(POLL_S)
