"""The controller: an actor that holds the desired state and keeps its replicas alive. Never on a request's path.

Ray restarts it with the arguments it was made with; it then adopts the gangs it finds by name.
"""

import asyncio
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import ray
from prometheus_client import REGISTRY

from cluster.fleet import Fleet
from cluster.replica import Replica
from cluster.spec import HeadSpec
from ossia.common import logs, metrics, wire
from ossia.v1 import fleet_pb2, fleet_pb2_grpc

SERVICE = fleet_pb2.DESCRIPTOR.services_by_name["Fleet"].full_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Card:
    address: str  # host:port of Fleet.Watch
    pid: int


class Controller:
    """All methods are for the head. An asyncio actor: they and the supervision share one event loop."""

    def __init__(self, spec: HeadSpec) -> None:
        logs.configure("controller", Path(spec.log_folder))
        self._spec = spec
        self._gcs_address = ray.get_runtime_context().gcs_address
        self._fleet = Fleet(spec.names, _processes(spec, metrics.serve(spec.node_ip)))
        REGISTRY.register(self._fleet)
        turn = asyncio.Lock()
        self._replicas = [Replica(spec, name, self._fleet, self._gcs_address, turn) for name in spec.names]
        self._server = asyncio.create_task(self._serve())
        self._supervision = [asyncio.create_task(replica.run()) for replica in self._replicas]

    async def card(self) -> Card:
        """Returns once Fleet.Watch is served; raises UserError where its port is in use."""
        await asyncio.shield(self._server)
        return Card(f"{self._spec.node_ip}:{self._spec.controller_port}", os.getpid())

    async def wait_ready(self) -> None:
        """Returns when every replica is READY; raises UserError as soon as a rank refuses its spec."""
        async for _ in self._fleet.states():
            for replica in self._replicas:
                if replica.refusal:
                    raise replica.refusal
            if self._fleet.ready:
                return

    async def stop(self, grace_s: float) -> None:
        """Ends all replicas; running requests have `grace_s` seconds to finish."""
        logger.info("stopping %d replicas", len(self._replicas))
        for task in self._supervision:
            task.cancel()
        await asyncio.gather(*self._supervision, return_exceptions=True)
        await asyncio.gather(*(replica.stop(grace_s) for replica in self._replicas))

    async def _serve(self) -> object:
        server, _ = wire.server(self._spec.token)
        fleet_pb2_grpc.add_FleetServicer_to_server(self._fleet, server)
        wire.reflect(server, SERVICE)
        wire.bind(server, self._spec.node_ip, self._spec.controller_port)
        await server.start()
        return server


def _processes(spec: HeadSpec, metrics_address: str) -> list[fleet_pb2.Process]:
    own = fleet_pb2.Process(part="controller", pid=os.getpid(), node=spec.node_ip, metrics_address=metrics_address)
    others = [
        fleet_pb2.Process(part=each.part, pid=each.pid, node=spec.node_ip, metrics_address=each.metrics_address)
        for each in spec.processes
    ]
    return [own, *others]


ControllerActor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Controller)
