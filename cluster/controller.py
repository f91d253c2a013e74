"""The controller: an actor that holds the desired state and keeps its replicas alive. Never on a request's path.

Ray restarts it with the arguments it was made with; it then adopts the gangs it finds by name.
"""

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import ray
from prometheus_client import REGISTRY

from cluster.fleet import Fleet
from cluster.replica import Replica
from cluster.spec import HeadSpec
from ossia.common import logs, metrics, wire
from ossia.common.errors import UserError
from ossia.common.metrics import Endpoint
from ossia.v1 import fleet_pb2, fleet_pb2_grpc

PORT_POLL_S = 1.0
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
        own = Endpoint("controller", os.getpid(), spec.node_ip, _serve_metrics(spec))
        self._fleet = Fleet(spec.names, [own, *spec.processes])
        REGISTRY.register(self._fleet)
        self._spec = spec = replace(spec, processes=(replace(own, pid=0), *spec.processes))
        self._gcs_address = ray.get_runtime_context().gcs_address
        turn = asyncio.Lock()
        self._replicas = [Replica(spec, name, self._fleet, self._gcs_address, turn) for name in spec.names]
        self._server = asyncio.create_task(self._serve())
        self._supervision = [asyncio.create_task(replica.run()) for replica in self._replicas]

    async def card(self, processes: Sequence[Endpoint]) -> Card:
        """Returns once Fleet.Watch is served; raises UserError where its port is in use.

        `processes` are the head that asks and those beside it: what was there before it is gone.
        """
        self._fleet.meet(processes)
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
        while not self._bound(server):  # noqa: ASYNC110 - another process
            await asyncio.sleep(PORT_POLL_S)
        await server.start()
        return server

    def _bound(self, server: grpc.aio.Server) -> bool:
        """Raises UserError in a first life; later ones wait for who took the port meanwhile, for routers know no other."""
        try:
            wire.bind(server, self._spec.node_ip, self._spec.controller_port)
        except UserError:
            if not ray.get_runtime_context().was_current_actor_reconstructed:
                raise
            logger.warning("port %d is somebody else's for now", self._spec.controller_port)
            return False
        return True


def _serve_metrics(spec: HeadSpec) -> str:
    """As others reach them; on the port of an earlier life, unless somebody else has taken it meanwhile."""
    try:
        address = metrics.serve(spec.metrics_host, spec.controller_metrics_port)
    except UserError:
        address = metrics.serve(spec.metrics_host)
    return wire.outward(address)


ControllerActor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Controller)
