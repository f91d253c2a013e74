"""Reads the controller's Fleet.Watch."""

import asyncio
from collections.abc import AsyncIterator

import grpc

from ossia.common import wire
from ossia.v1 import fleet_pb2, fleet_pb2_grpc

RETRY_S = 0.5


async def states(address: str, token: str | None) -> AsyncIterator[fleet_pb2.FleetState]:
    """Every state that the controller at host:port sends, for ever: waits for it, and again when it is gone."""
    while True:
        async with wire.channel(address, token) as channel:
            try:
                async for state in fleet_pb2_grpc.FleetStub(channel).Watch(fleet_pb2.WatchRequest(), wait_for_ready=True):
                    yield state
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                    raise
        await asyncio.sleep(RETRY_S)
