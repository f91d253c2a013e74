"""`ossia status` against a controller, a scriptable engine, and when either is gone."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict, MessageToJson

from cluster import probe
from cluster.identity import ProcessId
from cluster.state import Folder, Instance
from cluster.status import collect, table
from ossia.v1 import fleet_pb2
from tests.fakes.engine import FakeEngine


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine() as engine:
        yield engine


@pytest.fixture
def control() -> Iterator[Callable[[fleet_pb2.FleetState], str]]:
    """Starts a controller and returns its host:port."""
    started: list[subprocess.Popen[bytes]] = []

    def start(state: fleet_pb2.FleetState) -> str:
        port = probe.free_port()
        started.append(subprocess.Popen([sys.executable, "-m", "tests.fakes.controller", str(port), MessageToJson(state)]))
        while not probe.listens(f"127.0.0.1:{port}"):
            assert started[-1].poll() is None
        return f"127.0.0.1:{port}"

    yield start
    for process in started:
        process.kill()
        process.wait()


def fleet(*addresses: str) -> fleet_pb2.FleetState:
    """One replica an address; one that has none has failed."""
    state = fleet_pb2.FleetState(epoch=1, version=1)
    for number, address in enumerate(addresses):
        added = state.replicas.add(name=f"replica-{number}", epoch=1, address=address)
        added.state = fleet_pb2.REPLICA_STATE_READY if address else fleet_pb2.REPLICA_STATE_FAILED
        added.message = "" if address else "rank 1 died"
        added.ranks.add(rank=0, pid=os.getpid(), node="here")
    return state


def instance(controller: str, known: fleet_pb2.FleetState | None = None) -> Instance:
    me = ProcessId.of("supervisor", os.getpid())
    assert me
    return Instance(
        name="ossia",
        supervisor=me,
        url="http://127.0.0.1:8000",
        model="/models/m",
        model_names=("m",),
        replicas=1,
        ranks=1,
        experts="ep",
        controller=controller,
        folder="/tmp/x",
        grace=30.0,
        phase="ready",
        ray_address="127.0.0.1:1",
        processes=(replace(me, part="ray/gcs_server"),),
        fleet=MessageToDict(known, preserving_proto_field_name=True) if known else {},
    )


Control = Callable[[fleet_pb2.FleetState], str]


async def test_everything_is_there(engine: FakeEngine, control: Control) -> None:
    status = await collect(instance(control(fleet(engine.address))))
    assert (status.state, status.healthy) == ("ready", True)
    (replica,) = status.json()["replicas"]
    assert (replica["name"], replica["state"], replica["address"]) == ("replica-0", "ready", engine.address)
    assert replica["ranks"] == [{"rank": 0, "pid": os.getpid(), "node": "here", "metrics_address": ""}]
    assert replica["load"]["running"] == 0
    assert isinstance(replica["load"]["kv_tokens_total"], int)
    assert f"rank 0  pid {os.getpid()}  node here" in table(status)
    json.dumps(status.json())


async def test_a_replica_that_failed_or_is_silent_degrades(engine: FakeEngine, control: Control) -> None:
    asked = replace(instance(control(fleet(engine.address, "", f"127.0.0.1:{probe.free_port()}"))), replicas=3)
    status = await collect(asked)
    assert status.state == "degraded"
    assert [replica.state for replica in status.replicas] == ["ready", "failed", "silent"]
    assert "rank 1 died" in table(status)


async def test_fewer_replicas_than_wanted_degrade(engine: FakeEngine, control: Control) -> None:
    status = await collect(replace(instance(control(fleet(engine.address))), replicas=2))
    assert status.state == "degraded"


async def test_without_a_controller_leaders_answer_for_themselves(engine: FakeEngine) -> None:
    status = await collect(instance(f"127.0.0.1:{probe.free_port()}", fleet(engine.address)))
    assert status.state == "degraded"
    assert [replica.state for replica in status.replicas] == ["ready"]
    assert status.controller["answers"] is False
    assert "the fleet below is the last one known" in table(status)


async def test_a_lost_gcs_is_said(engine: FakeEngine, control: Control) -> None:
    asked = instance(control(fleet(engine.address)))
    gone = replace(asked.processes[0], created="earlier")
    status = await collect(replace(asked, processes=(gone,)))
    assert (status.state, status.healthy) == ("gcs lost", False)
    assert "nothing is rebuilt until" in table(status)
    assert (await collect(replace(asked, processes=()))).state == "gcs lost"  # nothing listens at its address either


async def test_a_dead_supervisor_is_said(engine: FakeEngine, control: Control) -> None:
    asked = instance(control(fleet(engine.address)))
    assert (await collect(replace(asked, supervisor=replace(asked.supervisor, created="earlier")))).state == "dead"


def test_the_command_exits_with_1_unless_all_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = Folder("ossia")
    with folder.lock():
        folder.write(replace(instance(f"127.0.0.1:{probe.free_port()}"), phase="starting"))
    done = subprocess.run([sys.executable, "-m", "cluster.cli", "status", "--json"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["state"] == "starting"
