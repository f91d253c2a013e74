"""A fleet source whose states the test pushes."""

import asyncio
from collections.abc import AsyncIterator

from ossia.v1.fleet_pb2 import REPLICA_STATE_READY, FleetState, Replica
from tests.fakes.engine import FakeEngine


class FakeFleet:
    """`push(...)` what the router shall see."""

    def __init__(self, *replicas: Replica) -> None:
        self._states: asyncio.Queue[FleetState] = asyncio.Queue()
        self._version = 0
        if replicas:
            self.push(*replicas)

    def push(self, *replicas: Replica) -> None:
        self._version += 1
        self._states.put_nowait(FleetState(epoch=1, version=self._version, replicas=replicas))

    async def watch(self) -> AsyncIterator[FleetState]:
        while True:
            yield await self._states.get()


def entry(engine: FakeEngine, name: str = "", epoch: int = 1) -> Replica:
    """A READY replica at the engine's address."""
    return Replica(name=name or f"replica@{engine.address}", epoch=epoch, address=engine.address, state=REPLICA_STATE_READY)
