"""How much of the checkpoint replicas that start have read, asked of their ranks' metrics. Knows neither torch nor Ray."""

import asyncio
import time
from contextlib import suppress

from cluster import probe
from cluster.progress import Progress
from ossia.v1 import fleet_pb2

COUNTER = "ossia_worker_checkpoint_read_bytes_total "  # of every rank
POLL_S = 0.5
STILL_STARTING_S = 15.0


class Loading:
    """`replica_bytes` is what the ranks of one replica read together, 0 where there is nothing to read.

    Replicas that start at the same time are shown as one: from the first that is STARTING until each of them is READY.
    """

    def __init__(self, replica_bytes: int, progress: Progress) -> None:
        self._replica_bytes = replica_bytes
        self._progress = progress
        self._replicas: dict[str, fleet_pb2.Replica] = {}  # those shown
        self._read: dict[str, int] = {}  # bytes by a rank's metrics address, as it last said
        self._starting = asyncio.Event()

    @property
    def share(self) -> str:
        """What has been read, for people; empty where nothing is."""
        total = len(self._replicas) * self._replica_bytes
        return f"{100 * self._done // total} % of {_size(total)} read" if total else ""

    def fleet(self, state: fleet_pb2.FleetState) -> None:
        """Takes note of who starts and who is ready."""
        starting = fleet_pb2.REPLICA_STATE_STARTING
        self._replicas = {each.name: each for each in state.replicas if each.state == starting or each.name in self._replicas}
        if any(not _ready(replica) for replica in self._replicas.values()):
            self._starting.set()
            return
        if self._replicas and self._replica_bytes:
            self._progress.bar(1.0, self.share)
            self._progress.end_bar()
        self._starting.clear()
        self._replicas.clear()
        self._read.clear()

    async def follow(self) -> None:
        """Keeps the bar of a terminal up to date. Returns at once where there is nothing to read, else never."""
        try:
            while self._replica_bytes:
                await self._starting.wait()
                await self._ask()
                if self._starting.is_set():
                    self._progress.bar(self._done / (len(self._replicas) * self._replica_bytes), self.share)
                await asyncio.sleep(POLL_S)
        finally:
            self._progress.end_bar()

    async def reassure(self, ready: asyncio.Event, hint: str) -> None:
        """A line every quarter of a minute until `ready`."""
        began = time.monotonic()
        while not ready.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(ready.wait(), STILL_STARTING_S)
                return
            share = f": {self.share}" if self.share else ""
            self._progress.say(f"still starting after {time.monotonic() - began:.0f} s{share}{hint}")

    @property
    def _done(self) -> int:
        """Bytes."""
        return sum(
            self._replica_bytes if _ready(replica) else sum(self._read.get(rank.metrics_address, 0) for rank in replica.ranks)
            for replica in self._replicas.values()
        )

    async def _ask(self) -> None:
        ranks = (rank for replica in self._replicas.values() if not _ready(replica) for rank in replica.ranks)
        addresses = sorted({rank.metrics_address for rank in ranks if rank.metrics_address})
        pages = await asyncio.gather(*(asyncio.to_thread(probe.fetch, f"http://{address}/metrics") for address in addresses))
        for address, page in zip(addresses, pages, strict=True):
            for line in page.splitlines():
                if line.startswith(COUNTER):
                    self._read[address] = int(float(line.removeprefix(COUNTER)))


def _ready(replica: fleet_pb2.Replica) -> bool:
    return replica.state == fleet_pb2.REPLICA_STATE_READY


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
