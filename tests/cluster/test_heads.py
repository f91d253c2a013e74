"""What becomes of a lost Ray's processes, over the fake head: real processes, states as a controller tells them."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from cluster import identity, probe
from cluster.heads import Heads
from cluster.identity import ProcessId
from cluster.spec import HeadSpec
from cluster.state import Folder, Instance, Record
from ossia.v1 import fleet_pb2
from workers.model.layout import Layout
from workers.runner.spec import RunnerSpec

READY, STARTING = fleet_pb2.REPLICA_STATE_READY, fleet_pb2.REPLICA_STATE_STARTING
WITHIN_S = 60.0
Rank = subprocess.Popen[bytes]


@pytest.fixture
def ranks() -> Iterator[list[Rank]]:
    started = [subprocess.Popen(["sleep", "3600"]) for _ in range(6)]
    yield started
    for process in started:
        process.kill()
        process.wait()


def fleet(**replicas: tuple[fleet_pb2.ReplicaState.ValueType, list[Rank]]) -> fleet_pb2.FleetState:
    state = fleet_pb2.FleetState(epoch=1, version=1)
    for name, (word, ranks) in replicas.items():
        replica = state.replicas.add(name=name.replace("_", "-"), epoch=1, state=word, address="127.0.0.1:1")
        for number, process in enumerate(ranks):
            replica.ranks.add(rank=number, pid=process.pid)
    return state


def record() -> Record:
    supervisor = ProcessId.of("supervisor", os.getpid())
    assert supervisor
    folder = Folder("test")
    with folder.lock():
        return Record(folder, Instance("test", supervisor, "", "m", ("m",), 2, 2, "ep", "127.0.0.1:1", str(folder.path), 1.0))


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Heads]:
    """Heads whose first one is ready."""
    spec = HeadSpec("test", 2, RunnerSpec("none", Layout(2)), ("m",), "", controller_port=probe.free_port())
    restarts = Counter("restarts", "Restarts.", ["part"], registry=CollectorRegistry())
    written = record()
    heads = Heads(spec, ["tests.fakes.head"], folder, written, lambda _: None, restarts)
    task, first = asyncio.create_task(heads.run()), None
    try:
        await asyncio.wait_for(heads.ready.wait(), WITHIN_S)
        first = heads.head
        yield heads
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        identity.kill(written.instance.processes)
        for head in filter(None, (first, heads.head)):
            await head.wait()


async def test_ranks_that_did_not_serve_yet_end_with_their_gcs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: list[Rank]
) -> None:
    """They would hold the devices of those that the next head starts in their place."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with running(tmp_path) as heads:
        await heads.fleet(fleet(replica_0=(READY, ranks[:2]), replica_1=(READY, ranks[2:4])))
        for dead in ranks[2:4]:
            dead.kill()
            dead.wait()
        await heads.fleet(fleet(replica_0=(READY, ranks[:2]), replica_1=(STARTING, ranks[4:])))
        assert heads.head
        os.kill(heads.head.pid, signal.SIGUSR1)
        for rebuilt in ranks[4:]:
            assert await asyncio.to_thread(rebuilt.wait, WITHIN_S) == -signal.SIGKILL
