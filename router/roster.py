"""The replicas that a fleet source tells of, each with a session of its own: who is there, who is ready, how busy."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from ossia.v1 import engine_pb2, fleet_pb2
from ossia.v1.engine_pb2 import DescribeResponse, Load
from router.fleet import FleetSource
from router.metrics import RouterMetrics
from router.replica import Replica, State

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standing:
    """A replica of the fleet: what its source says, and how it stands with this router."""

    entry: fleet_pb2.Replica
    state: str  # "starting" or "failed" by the source; "connecting", "ready" or "ejected" here
    card: DescribeResponse | None
    load: Load


class Roster:
    """Follows `source` from `start` to `close`; `woken` is called whenever a replica becomes ready."""

    def __init__(
        self,
        source: FleetSource,
        token: str | None,
        stall_floor_s: float,
        metrics: RouterMetrics,
        woken: Callable[[], None],
    ) -> None:
        self.fleet = fleet_pb2.FleetState()  # as last told
        self.card: DescribeResponse | None = None  # of the replica that became ready last
        self._source = source
        self._token = token
        self._stall_floor_s = stall_floor_s
        self._metrics = metrics
        self._woken = woken
        self._replicas: dict[tuple[str, int, str], Replica] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watcher = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Lets every replica go; what runs on them raises UNAVAILABLE."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        self._apply(fleet_pb2.FleetState())
        if self._retiring:
            await asyncio.wait(self._retiring)

    # ------------------------------------------------------------ what others ask

    def ready(self) -> list[Replica]:
        """Those that a request may be sent to."""
        return [replica for replica in self._replicas.values() if replica.state is State.READY]

    async def wait_ready(self, ready: bool) -> None:
        """Returns once there are, or are not, ready replicas."""
        while bool(self.ready()) != ready:
            self._changed.clear()
            await self._changed.wait()

    def standings(self) -> list[Standing]:
        """The fleet as last told; where the source does not tell the ranks, those that the replica describes."""
        result = []
        for entry in self.fleet.replicas:
            known = fleet_pb2.Replica()
            known.CopyFrom(entry)
            replica = self._replicas.get(_key(entry))
            if replica is None:
                state = "failed" if entry.state == fleet_pb2.REPLICA_STATE_FAILED else "starting"
                result.append(Standing(known, state, None, Load()))
                continue
            if not known.ranks and replica.card is not None:
                known.ranks.extend(replica.card.ranks)
            result.append(Standing(known, replica.state.value, replica.card, replica.load))
        return result

    def replicas(self) -> list[fleet_pb2.Replica]:
        """Those of `standings`."""
        return [standing.entry for standing in self.standings()]

    def processes(self) -> list[engine_pb2.Process]:
        """Those beside the ranks; where the source does not tell them, those that the replicas describe."""
        if self.fleet.processes:
            return list(self.fleet.processes)
        return [process for replica in self._replicas.values() if replica.card for process in replica.card.processes]

    def load(self) -> Load:
        """The sum of what the replicas last told; of the steps, the slowest."""
        total = Load()
        for replica in self._replicas.values():
            load = replica.load
            total.running += load.running
            total.waiting += load.waiting
            total.prefill_tokens += load.prefill_tokens
            total.kv_tokens_used += load.kv_tokens_used
            total.kv_tokens_total += load.kv_tokens_total
            total.step_p99_ms = max(total.step_p99_ms, load.step_p99_ms)
            total.tokens_generated += load.tokens_generated
        return total

    # ------------------------------------------------------------ changes

    async def _follow(self) -> None:
        try:
            async for state in self._source.watch():
                self._apply(state)
        except Exception:
            logger.exception("the fleet source failed; the last known fleet stays")

    def _apply(self, state: fleet_pb2.FleetState) -> None:
        """Makes the replicas those of `state`; a new epoch or address is a new replica."""
        self.fleet = state
        wanted = {_key(entry): entry for entry in state.replicas if entry.state == fleet_pb2.REPLICA_STATE_READY}
        for key in self._replicas.keys() - wanted.keys():
            task = asyncio.create_task(self._retire(self._replicas.pop(key)))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        for key in wanted.keys() - self._replicas.keys():
            self._replicas[key] = replica = Replica(wanted[key], self._token, self._stall_floor_s, self._notice)
            self._metrics.follow(replica.name, replica.state.value, replica.outstanding)

    async def _retire(self, replica: Replica) -> None:
        await replica.close()
        if replica.name not in {other.name for other in self._replicas.values()}:
            self._metrics.forget(replica.name)

    def _notice(self, replica: Replica) -> None:
        """A replica's state changed."""
        if replica in self._replicas.values():
            self._metrics.state(replica.name, replica.state.value)
        if replica.state is State.READY:
            self.card = replica.card
            self._woken()
        self._changed.set()


def _key(entry: fleet_pb2.Replica) -> tuple[str, int, str]:
    return entry.name, entry.epoch, entry.address
