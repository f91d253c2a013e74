"""One instance on a real Ray from start to end, in the order of the tests: ranks, controller and GCS are killed in turn."""

import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from cluster import probe, processes
from cluster.spec import Survivor
from ossia.v1 import fleet_pb2
from tests.cluster import heads
from tests.cluster.heads import FAILED, READY, Head, pids, serves
from workers.model.layout import Layout
from workers.runner.spec import RunnerSpec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with heads.folder() as path:
        yield path


@pytest.fixture(scope="module")
def head(folder: Path) -> Iterator[Head]:
    with heads.running(heads.spec(), folder) as head:
        head.start()
        yield head


def all_ready(state: fleet_pb2.FleetState) -> bool:
    return all(replica.state == READY for replica in state.replicas)


def taken(address: str) -> socket.socket:
    """Listens there as soon as a process that was killed does so no more."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_server((host, int(port)))
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_every_replica_serves(head: Head) -> None:
    state = head.fleet()
    assert [replica.name for replica in state.replicas] == ["replica-0", "replica-1"]
    for replica in state.replicas:
        assert (replica.epoch, replica.restarts, replica.message, len(replica.ranks)) == (1, 0, "", 2)
        assert all(processes.alive(pid) for pid in pids(replica))
        assert serves(replica.address)


def test_controller_and_head_have_metrics(head: Head) -> None:
    controller, own = head.fleet().processes
    assert (controller.part, own.part, own.pid) == ("controller", "head", head.process.pid)
    assert "ossia_head_gcs_up 1.0" in urllib.request.urlopen(f"http://{own.metrics_address}/metrics").read().decode()
    text = urllib.request.urlopen(f"http://{controller.metrics_address}/metrics").read().decode()
    assert 'ossia_controller_replicas{state="ready"} 2.0' in text
    assert 'ossia_controller_replica_restarts_total{replica="replica-0"} 0.0' in text
    assert 'ossia_controller_ranks{replica="replica-1"} 2.0' in text


def test_nothing_gives_up_on_a_lost_gcs_within_a_week(head: Head) -> None:
    raylet = next(child.pid for child in psutil.Process(head.process.pid).children() if child.name() == "raylet")
    state = head.fleet()
    for pid in (raylet, state.processes[0].pid, *(pid for replica in state.replicas for pid in pids(replica))):
        assert psutil.Process(pid).environ()["RAY_gcs_rpc_server_reconnect_timeout_s"] == str(7 * 24 * 3600)


def test_ranks_do_not_give_way_to_others(head: Head) -> None:
    assert {psutil.Process(pid).nice() for replica in head.fleet().replicas for pid in pids(replica)} == {os.nice(0)}


def test_ray_listens_on_loopback_alone(head: Head) -> None:
    for process in processes.below(psutil.Process(head.process.pid)):
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip.removeprefix("::ffff:").startswith("127."), (process.cmdline(), connection)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_dies_or_hangs_takes_its_gang_along(head: Head, number: signal.Signals) -> None:
    states = head.states(head.spec.ping_timeout_s + 15)  # far less than anything but a ping waits
    before, other = next(states).replicas
    os.kill(pids(before)[1], number)
    failed = next(state.replicas[0] for state in states if state.replicas[0].state == FAILED)
    assert "rank 1" in failed.message
    after = head.fleet(lambda state: state.replicas[0].epoch > before.epoch and all_ready(state))
    assert (after.replicas[0].epoch, after.replicas[0].restarts) == (before.epoch + 1, before.restarts + 1)
    assert not any(processes.alive(pid) for pid in pids(before))
    assert serves(after.replicas[0].address)
    assert after.replicas[1] == other


def test_a_restarted_controller_adopts_the_gangs(head: Head) -> None:
    before = head.fleet()
    os.kill(before.processes[0].pid, signal.SIGKILL)
    after = head.fleet(lambda state: state.epoch != before.epoch and all_ready(state))
    assert list(after.replicas) == list(before.replicas)
    assert after.processes[0].metrics_address == before.processes[0].metrics_address
    assert after.processes[1] == before.processes[1]
    os.kill(pids(after.replicas[1])[0], signal.SIGKILL)
    rebuilt = head.fleet(lambda state: state.replicas[1].epoch > after.replicas[1].epoch and all_ready(state))
    assert rebuilt.replicas[1].restarts == after.replicas[1].restarts + 1
    assert rebuilt.replicas[0] == after.replicas[0]


def test_a_restarted_controller_waits_for_its_port(head: Head) -> None:
    """Which somebody else took while it was away: nobody would hear of a replica again."""
    before = head.fleet()
    metrics, deadline = f"http://{before.processes[0].metrics_address}/metrics", time.monotonic() + 60
    os.kill(before.processes[0].pid, signal.SIGKILL)
    with taken(head.address):
        while 'ossia_controller_replicas{state="ready"} 2.0' not in probe.fetch(metrics):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    after = head.fleet(lambda state: state.epoch != before.epoch and all_ready(state))
    assert list(after.replicas) == list(before.replicas)


def test_a_restarted_controller_rebuilds_what_died_meanwhile(head: Head) -> None:
    before = head.fleet()
    os.kill(before.processes[0].pid, signal.SIGKILL)
    os.kill(pids(before.replicas[0])[0], signal.SIGKILL)
    after = head.fleet(lambda state: state.epoch != before.epoch and all_ready(state))
    assert after.replicas[0].epoch == before.replicas[0].epoch + 1
    assert not any(processes.alive(pid) for pid in pids(before.replicas[0]))
    assert after.replicas[1] == before.replicas[1]


def test_replicas_outlive_the_gcs_until_the_next_head_replaces_them_one_by_one(head: Head, folder: Path) -> None:
    before = head.fleet()
    gcs = next(child for child in psutil.Process(head.process.pid).children() if child.name() == "gcs_server")
    gcs.kill()
    head.event("gcs_lost")
    time.sleep(head.spec.ping_timeout_s + 2)  # long enough for a controller that mistook the loss for a hang
    assert list(head.fleet().replicas) == list(before.replicas)
    assert all(serves(replica.address) for replica in before.replicas)

    os.kill(before.processes[0].pid, signal.SIGKILL)  # as the supervisor does, for the port
    survivors = tuple(Survivor(each.name, each.address, tuple(pids(each)), each.epoch) for each in before.replicas)
    second = folder / "2"
    second.mkdir()
    with heads.running(heads.spec(survivors=survivors), second) as successor:
        successor.address = str(successor.event("controller")["address"])
        for state in successor.states(150):
            assert any(replica.state == READY and serves(replica.address) for replica in state.replicas), state
            epochs = zip(state.replicas, before.replicas, strict=True)
            if all_ready(state) and all(replica.epoch > old.epoch for replica, old in epochs):
                break
        else:
            pytest.fail("the survivors were not replaced")
        successor.event("ready")
        assert not any(processes.alive(pid) for replica in before.replicas for pid in pids(replica))
        started = processes.below(psutil.Process(successor.process.pid))
        assert successor.stop() == 0
        assert not any(processes.alive(process.pid) for process in started)
        assert processes.of_ray(second) == []


def test_a_head_without_its_gcs_ends_all_the_same(head: Head, folder: Path) -> None:
    started = processes.below(psutil.Process(head.process.pid))
    assert head.stop() == 0
    assert not any(processes.alive(process.pid) for process in started)
    assert processes.of_ray(folder) == []


def test_a_killed_head_takes_its_ray_along() -> None:
    with heads.folder() as folder, heads.running(heads.spec(replicas=1), folder) as head:
        head.start()
        started = processes.below(psutil.Process(head.process.pid))
        head.process.kill()
        gone, left = psutil.wait_procs(started, timeout=20)
        assert not left, [process.name() for process in left]


def test_a_head_that_is_stopped_while_it_starts_leaves_at_once() -> None:
    """While Ray starts, while its controller does, and in between."""
    with ExitStack() as stack:
        folders = [stack.enter_context(heads.folder()) for _ in range(4)]
        starting = [stack.enter_context(heads.running(heads.spec(grace_s=60.0), folder)) for folder in folders]
        for head in starting:
            time.sleep(1.5)
            head.process.terminate()
        for head, folder in zip(starting, folders, strict=True):
            assert head.process.wait(45) in (0, -signal.SIGTERM), head.stderr  # the latter before it began anything
            assert processes.of_ray(folder) == []
            assert head.stderr == ""


def test_a_head_that_is_stopped_as_soon_as_ray_has_started_leaves_nothing_and_says_nothing() -> None:
    """Where Ray's own handlers would be, were they not kept out."""
    spec = heads.spec(grace_s=60.0)
    with heads.folder() as folder, heads.running(spec, folder, "tests.fakes.stopped_head") as head:
        assert head.process.wait(120) == 0, head.stderr
        assert processes.of_ray(folder) == []
        assert head.stderr == ""


def test_a_head_that_is_stopped_while_replicas_start_says_nothing() -> None:
    """Of the deaths that are its own doing."""
    spec = heads.spec(grace_s=60.0, runner=RunnerSpec("hang", Layout(2)))
    with heads.folder() as folder, heads.running(spec, folder) as head:
        head.event("controller")
        assert head.stop() == 0
        assert processes.of_ray(folder) == []
        assert head.stderr == ""
