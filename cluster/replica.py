"""Keeps one replica alive: adopts or builds its gang, watches it, kills and rebuilds it when a rank dies or hangs."""

import asyncio
import logging
import time

from cluster import gcs, processes
from cluster.backoff import Backoff
from cluster.fleet import Fleet
from cluster.gang import Gang, GangError, epochs
from cluster.placement import PlacementError
from cluster.spec import HeadSpec, Survivor
from ossia.common.errors import UserError
from ossia.v1 import engine_pb2, fleet_pb2

POLL_S = 1.0
SETTLE_S = 2.0  # for routers to open a session with a new replica before the next survivor goes

logger = logging.getLogger(__name__)


class Replica:
    """Kills and builds nothing while the GCS is away. `turn` is shared by all: survivors are replaced one at a time."""

    def __init__(self, spec: HeadSpec, name: str, fleet: Fleet, gcs_address: str, turn: asyncio.Lock) -> None:
        self.refusal: UserError | None = None  # why ranks last refused their spec
        self._spec = spec
        self._name = name
        self._fleet = fleet
        self._gcs_address = gcs_address
        self._turn = turn
        self._epoch = 0  # of the latest life
        self._gang: Gang | None = None
        self._survivor = next((survivor for survivor in spec.survivors if survivor.name == name), None)
        self._backoff = Backoff()

    async def run(self) -> None:
        """Never returns."""
        while True:
            try:
                await self._live()
            except Exception as error:  # Ray may fail in any of its calls: begin again from what it still knows
                logger.exception("%s: supervision failed and begins again", self._name)
                self._show(fleet_pb2.REPLICA_STATE_FAILED, f"{type(error).__name__}: {error}")
            await asyncio.sleep(self._backoff.after(0))

    async def stop(self, grace_s: float) -> None:
        """Ends the replica; running requests have `grace_s` seconds to finish. run() has been cancelled before."""
        if self._gang:
            await self._gang.stop(grace_s)
            await (self._gang.kill() if await gcs.alive(self._gcs_address) else self._gang.kill_processes())
        if self._survivor:
            await asyncio.to_thread(processes.kill_actors, self._survivor.pids)

    async def _live(self) -> None:
        await gcs.returned(self._gcs_address)
        await self._inherit()
        if self._survivor:
            await self._relieve(self._survivor)
        while True:
            gang, began = self._gang or await self._build(), time.monotonic()
            self._show(fleet_pb2.REPLICA_STATE_READY)
            reason = await gang.failure(self._spec.ping_timeout_s)
            await self._bury(gang, reason, began)

    async def _inherit(self) -> None:
        """Adopts the newest gang that an earlier controller left where it serves, and kills everything else it left."""
        lives = await asyncio.to_thread(epochs, self._spec, self._name)
        self._epoch, self._gang = max(lives, default=0), None
        if lives:
            self._survivor = None  # its successor was being built
        for epoch in (epoch for epoch, held in lives.items() if held):
            gang = Gang(self._spec, self._name, epoch)
            if await gang.adopt() and epoch == self._epoch:
                logger.info("%s: adopted epoch %d", self._name, epoch)
                self._gang = gang
            else:
                await gang.kill()

    async def _relieve(self, survivor: Survivor) -> None:
        """Lists a survivor as READY until its turn comes or it dies, then replaces it."""
        self._epoch = survivor.epoch
        self._show(fleet_pb2.REPLICA_STATE_READY)
        turn, death = asyncio.create_task(self._turn.acquire()), asyncio.create_task(_died(survivor))
        try:
            await asyncio.wait((turn, death), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(processes.kill_actors, survivor.pids)
            self._survivor = None
            await self._build()
            self._show(fleet_pb2.REPLICA_STATE_READY)
            await asyncio.sleep(SETTLE_S)
        finally:
            death.cancel()
            if not turn.cancel():
                self._turn.release()

    async def _build(self) -> Gang:
        """Builds until a gang serves."""
        while True:
            self._epoch += 1
            gang, began = Gang(self._spec, self._name, self._epoch), time.monotonic()
            self._gang = gang
            self._show(fleet_pb2.REPLICA_STATE_STARTING)
            try:
                await gang.build(prepared=lambda: self._show(fleet_pb2.REPLICA_STATE_STARTING))
                return gang
            except UserError as error:
                self.refusal, reason = error, str(error)
            except (GangError, PlacementError) as error:
                reason = str(error)
            await self._bury(gang, reason, began)

    async def _bury(self, gang: Gang, reason: str, began: float) -> None:
        """Kills a gang that failed, and waits for as long as its short life asks."""
        logger.error("%s: epoch %d failed: %s", self._name, gang.epoch, reason)
        self._show(fleet_pb2.REPLICA_STATE_FAILED, reason)
        await gcs.returned(self._gcs_address)
        await gang.kill()
        self._gang = None
        await asyncio.sleep(self._backoff.after(time.monotonic() - began))

    def _show(self, state: fleet_pb2.ReplicaState.ValueType, message: str = "") -> None:
        ready = state == fleet_pb2.REPLICA_STATE_READY
        self._fleet.update(
            fleet_pb2.Replica(
                name=self._name,
                epoch=self._epoch,
                state=state,
                address=self._address if ready else "",
                ranks=[] if state == fleet_pb2.REPLICA_STATE_FAILED else self._ranks,
                restarts=max(0, self._epoch - 1),
                message=message,
            )
        )

    @property
    def _address(self) -> str:
        if self._survivor:
            return self._survivor.address
        return self._gang.address if self._gang else ""

    @property
    def _ranks(self) -> list[engine_pb2.Rank]:
        if self._survivor:
            pids = enumerate(self._survivor.pids)
            return [engine_pb2.Rank(rank=rank, pid=pid, node=self._spec.node_ip) for rank, pid in pids]
        infos = self._gang.ranks if self._gang else []
        return [
            engine_pb2.Rank(rank=info.rank, pid=info.pid, node=info.node, metrics_address=info.metrics_address)
            for info in infos
        ]


async def _died(survivor: Survivor) -> None:
    while all(processes.alive(pid) for pid in survivor.pids):  # noqa: ASYNC110 - other processes
        await asyncio.sleep(POLL_S)
