"""What is shown of replicas that load: what their ranks' metrics say, over HTTP."""

import asyncio
import io
import re

import pytest
from prometheus_client import CollectorRegistry

from cluster import loading
from cluster.loading import Loading
from cluster.progress import CLEAR, Progress
from ossia.common import metrics
from ossia.v1 import engine_pb2, fleet_pb2
from workers.metrics import Metrics

READY, STARTING = fleet_pb2.REPLICA_STATE_READY, fleet_pb2.REPLICA_STATE_STARTING
NOBODY = "127.0.0.1:1"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Rank:
    """The metrics of one."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.metrics = Metrics(registry)
        self.address = metrics.serve("127.0.0.1", registry=registry)


def fleet(*replicas: tuple[fleet_pb2.ReplicaState.ValueType, list[str]]) -> fleet_pb2.FleetState:
    """Replicas by state and the addresses of their ranks' metrics."""
    return fleet_pb2.FleetState(
        replicas=[
            fleet_pb2.Replica(name=str(number), state=state, ranks=[engine_pb2.Rank(metrics_address=each) for each in ranks])
            for number, (state, ranks) in enumerate(replicas)
        ]
    )


async def until(screen: io.StringIO, text: str) -> None:
    async with asyncio.timeout(10):
        while text not in screen.getvalue():  # noqa: ASYNC110 - it is written to, and tells no event
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "POLL_S", 0.02)
    monkeypatch.setattr(loading, "STILL_STARTING_S", 0.05)


async def test_a_bar_grows_with_what_the_ranks_read_and_stays_when_it_is_full() -> None:
    rank, screen = Rank(), Terminal()
    progress = Progress(screen)
    shown = Loading(100_000_000, progress)
    following = asyncio.create_task(shown.follow())
    shown.fleet(fleet((STARTING, [])))
    await until(screen, "0 % of 100.0 MB read")
    shown.fleet(fleet((STARTING, [rank.address, NOBODY])))
    rank.metrics.read(30_000_000)
    await until(screen, f"{CLEAR}ossia: [#########.....................] 30 % of 100.0 MB read")
    progress.say("something else")
    assert screen.getvalue().endswith(
        f"{CLEAR}ossia: something else\nossia: [#########.....................] 30 % of 100.0 MB read"
    )
    shown.fleet(fleet((READY, [rank.address, NOBODY])))
    assert screen.getvalue().endswith(f"ossia: [{'#' * 30}] 100 % of 100.0 MB read\n")
    progress.say("after it")
    assert screen.getvalue().endswith("read\nossia: after it\n")
    following.cancel()


async def test_replicas_that_start_together_are_shown_as_one_and_a_rebuilt_one_alone() -> None:
    rank, screen = Rank(), Terminal()
    shown = Loading(1_000_000_000, Progress(screen))
    following = asyncio.create_task(shown.follow())
    rank.metrics.read(500_000_000)
    shown.fleet(fleet((STARTING, [rank.address]), (STARTING, [])))
    await until(screen, "25 % of 2.0 GB read")
    shown.fleet(fleet((STARTING, [rank.address]), (READY, [])))
    await until(screen, "75 % of 2.0 GB read")
    shown.fleet(fleet((READY, [rank.address]), (READY, [])))
    assert shown.share == ""
    shown.fleet(fleet((READY, []), (STARTING, [rank.address])))
    await until(screen, "50 % of 1.0 GB read")
    following.cancel()


async def test_elsewhere_the_line_that_reassures_says_it() -> None:
    rank, log = Rank(), io.StringIO()
    shown, ready = Loading(2_000_000_000, Progress(log)), asyncio.Event()
    following, reassuring = asyncio.create_task(shown.follow()), asyncio.create_task(shown.reassure(ready, " (hint)"))
    await until(log, " s (hint)\n")
    rank.metrics.read(500_000_000)
    shown.fleet(fleet((STARTING, [rank.address])))
    await until(log, " s: 25 % of 2.0 GB read (hint)\n")
    assert re.match(r"ossia: still starting after \d+ s", log.getvalue())
    assert CLEAR not in log.getvalue()
    ready.set()
    await asyncio.wait_for(reassuring, 5)
    following.cancel()


async def test_without_a_checkpoint_nobody_is_asked() -> None:
    screen = Terminal()
    shown = Loading(0, Progress(screen))
    shown.fleet(fleet((STARTING, [NOBODY])))
    await asyncio.wait_for(shown.follow(), 5)
    assert (screen.getvalue(), shown.share) == ("", "")
