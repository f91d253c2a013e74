"""The fleet as the controller streams it: `Fleet.Watch` at a fixed address."""

import asyncio
import logging
from collections.abc import AsyncGenerator

from grpc import aio

from ossia.common import wire
from ossia.v1.fleet_pb2 import FleetState, WatchRequest
from ossia.v1.fleet_pb2_grpc import FleetStub
from router.backoff import Backoff
from router.outage import Outage

logger = logging.getLogger(__name__)


class ControllerFleet:
    """Watches the controller at host:port and dials again, for ever, when it is gone."""

    def __init__(self, address: str, token: str | None) -> None:
        self._address = address
        self._token = token

    async def watch(self) -> AsyncGenerator[FleetState, None]:
        backoff, outage = Backoff(), Outage(logger, f"the controller at {self._address}")
        seen = (0, -1)  # epoch and version
        while True:
            async with wire.channel(self._address, self._token) as channel:
                try:
                    async for state in FleetStub(channel).Watch(WatchRequest()):
                        backoff.reset()
                        outage.ends()
                        if state.epoch != seen[0] or state.version > seen[1]:
                            seen = (state.epoch, state.version)
                            yield state
                except aio.AioRpcError as error:
                    outage.begins(f"{error.code().name}: {error.details()}")
            await asyncio.sleep(backoff.next_s())
