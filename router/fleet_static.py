"""A fleet that never changes: addresses given by hand."""

from collections.abc import AsyncGenerator, Sequence

from ossia.v1.fleet_pb2 import REPLICA_STATE_READY, FleetState, Replica


class StaticFleet:
    """Replicas named by their addresses (host:port); whether they live is for the router to find out."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = tuple(addresses)

    async def watch(self) -> AsyncGenerator[FleetState, None]:
        replicas = [Replica(name=address, address=address, state=REPLICA_STATE_READY) for address in self._addresses]
        yield FleetState(version=1, replicas=replicas)
