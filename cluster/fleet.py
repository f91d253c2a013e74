"""The state of the replicas, told to whoever watches: routers over gRPC, Prometheus, the head."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ossia.common.metrics import Endpoint
from ossia.v1 import engine_pb2, fleet_pb2, fleet_pb2_grpc


class Fleet(fleet_pb2_grpc.FleetServicer, Collector):
    """Holds a FleetState and streams it at every change; `processes` are those beside the ranks.

    Watchers hear nothing before the state of every replica is known: after a restart, an early answer would tell routers
    to leave replicas that serve and are about to be adopted.
    """

    def __init__(self, replicas: Sequence[str], processes: Sequence[Endpoint]) -> None:
        self._state = fleet_pb2.FleetState(
            epoch=time.time_ns(),
            version=1,
            replicas=[fleet_pb2.Replica(name=name) for name in replicas],
            processes=[_process(each) for each in processes],
        )
        self._changed = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Every replica is READY."""
        return all(replica.state == fleet_pb2.REPLICA_STATE_READY for replica in self._state.replicas)

    def update(self, replica: fleet_pb2.Replica) -> None:
        """Puts `replica` in the place of the one of its name."""
        next(each for each in self._state.replicas if each.name == replica.name).CopyFrom(replica)
        self._tell()

    def meet(self, processes: Sequence[Endpoint]) -> None:
        """Puts these in the place of all processes but the first, the controller itself."""
        del self._state.processes[1:]
        self._state.processes.extend(_process(each) for each in processes)
        self._tell()

    def _tell(self) -> None:
        self._state.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def states(self) -> AsyncIterator[fleet_pb2.FleetState]:
        """The state now and after every change, changes that pile up being merged."""
        while True:
            state, changed = fleet_pb2.FleetState(), self._changed
            state.CopyFrom(self._state)
            yield state
            await changed.wait()

    async def Watch(self, request: fleet_pb2.WatchRequest, context: object) -> AsyncIterator[fleet_pb2.FleetState]:
        async for state in self.states():
            if all(replica.state for replica in state.replicas):
                yield state

    def collect(self) -> Iterable[Metric]:
        """For Prometheus; runs in a thread of its own, on a copy."""
        state = fleet_pb2.FleetState()
        state.CopyFrom(self._state)
        restarts = CounterMetricFamily("ossia_controller_replica_restarts", "Rebuilds of a replica's gang.", labels=["replica"])
        ranks = GaugeMetricFamily("ossia_controller_ranks", "Ranks that a replica has.", labels=["replica"])
        counts = GaugeMetricFamily("ossia_controller_replicas", "Replicas in a state.", labels=["state"])
        for replica in state.replicas:
            restarts.add_metric([replica.name], replica.restarts)
            ranks.add_metric([replica.name], len(replica.ranks))
        for value, name in ((1, "starting"), (2, "ready"), (3, "failed")):
            counts.add_metric([name], sum(replica.state == value for replica in state.replicas))
        return [restarts, ranks, counts]


def _process(endpoint: Endpoint) -> engine_pb2.Process:
    return engine_pb2.Process(**asdict(endpoint))
