"""The fleet as the controller streams it: `Fleet.Watch` at a fixed address."""

import asyncio
import logging
from collections.abc import AsyncGenerator

from grpc import aio

from ossia.common import wire
from ossia.v1.fleet_pb2 import FleetState, WatchRequest
from ossia.v1.fleet_pb2_grpc import FleetStub
from router.backoff import Backoff

logger = logging.getLogger(__name__)


class ControllerFleet:
    """Watches the controller at host:port and dials again, for ever, when it is gone."""

    def __init__(self, address: str, token: str | None) -> None:
        self._address = address
        self._token = token

    async def watch(self) -> AsyncGenerator[FleetState, None]:
        backoff = Backoff()
        seen = (0, -1)  # epoch and version
        while True:
            async with wire.channel(self._address, self._token) as channel:
                try:
                    async for state in FleetStub(channel).Watch(WatchRequest()):
                        backoff.reset()
                        if state.epoch != seen[0] or state.version > seen[1]:
                            seen = (state.epoch, state.version)
                            yield state
                except aio.AioRpcError as error:
                    logger.warning("the controller at %s is gone: %s: %s", self._address, error.code().name, error.details())
            await asyncio.sleep(backoff.next_s())
