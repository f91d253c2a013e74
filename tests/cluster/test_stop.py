"""`ossia stop` beside another command that stops or starts the same instance."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import processes
from cluster.identity import ProcessId
from cluster.state import Folder, Instance
from cluster.stop import stop
from ossia.common.errors import UserError

Supervisor = subprocess.Popen[bytes]


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """Ends by itself once its stdin is closed, and at once by a signal."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        yield process
        process.kill()


def instance(pid: int, phase: str) -> Instance:
    supervisor = ProcessId.of("supervisor", pid)
    assert supervisor
    return Instance("one", supervisor, "http://127.0.0.1:1", "m", ("m",), 2, 2, "ep", "127.0.0.1:2", "/nowhere", 0.0, phase)


def as_it_waits(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """For the first time."""
    wait, once = processes.wait, [happens]

    def waited(*arguments: object) -> None:
        if once:
            once.pop()()
        wait(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(processes, "wait", waited)


def running(folder: Folder, state: Instance) -> Folder:
    with folder.lock():
        folder.write(state)
    return folder


PREPARES = """
import time
from cluster.state import Folder
with Folder("one").lock():
    print("downloads", flush=True)
    time.sleep(600)
"""


def test_what_only_prepares_to_start_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be downloading for an hour, and the next `serve` says that it runs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", PREPARES], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        with pytest.raises(UserError, match="instance 'one' is already running"), Folder("one").lock():
            pass
        try:
            stop("one")
            assert process.wait() == -15
        finally:
            process.kill()
    with pytest.raises(UserError, match="no instance 'one' is running"):
        stop("one")


def test_a_second_stop_waits_like_the_first(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = running(Folder("one"), instance(supervisor.pid, "stopping"))
    as_it_waits(monkeypatch, lambda: supervisor.communicate(b"\n"))
    stop("one")
    assert supervisor.returncode == 0, "a second signal would have cut off requests"
    assert folder.read() is None


def test_what_was_started_anew_meanwhile_is_left_alone(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, anew = running(Folder("one"), instance(supervisor.pid, "ready")), instance(os.getpid(), "ready")
    as_it_waits(monkeypatch, lambda: folder.write(anew))
    stop("one")
    assert folder.read() == anew


def test_what_is_started_anew_as_the_dead_are_removed_is_left_alone(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, anew = running(Folder("one"), instance(supervisor.pid, "ready")), instance(os.getpid(), "starting")
    supervisor.kill()
    supervisor.wait()
    as_it_waits(monkeypatch, lambda: folder.write(anew))
    stop("one")
    assert folder.read() == anew


def test_what_the_dead_started_last_ends_too(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    state = instance(supervisor.pid, "ready")
    folder = running(Folder("one"), state)
    last = subprocess.Popen(["sleep", "60"])
    gateway = ProcessId.of("gateway", last.pid)
    assert gateway
    as_it_waits(monkeypatch, lambda: folder.write(replace(state, processes=(gateway,))))
    stop("one")
    assert last.wait() == -9
    assert folder.read() is None
