"""The state file, the lock, and processes told apart from later ones of the same pid."""

import os
import re
import resource
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cluster.identity import ProcessId, kill
from cluster.state import Folder, Instance, Record, names
from ossia.common.errors import UserError

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return Folder("one")


def instance(name: str = "one") -> Instance:
    supervisor = ProcessId.of("supervisor", os.getpid())
    assert supervisor
    return Instance(
        name, supervisor, "http://127.0.0.1:1", "m", ("m",), 2, 2, "ep", "127.0.0.1:2", "/tmp/x", 30.0, token="secret"
    )


def test_what_is_written_is_read_back_and_only_the_owner_may_read_it(folder: Folder) -> None:
    with folder.lock():
        record = Record(folder, instance())
        record.track({"gateway": os.getpid()})
        record.update(phase="ready", fleet={"version": "3"})
        assert folder.read() == record.instance
        assert record.instance.process("gateway") == ProcessId.of("gateway", os.getpid())
        assert names() == ["one"]
        mode = (folder.path / "state.json").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
        folder.remove()
    assert folder.read() is None


def test_a_name_runs_once(folder: Folder) -> None:
    with folder.lock(), pytest.raises(UserError, match="instance 'one' is already running"), Folder("one").lock():
        pass
    with folder.lock():
        pass


def test_an_unknown_name_says_what_runs(folder: Folder) -> None:
    with pytest.raises(UserError, match="no instance 'one' is running; start one"):
        folder.require()
    other = Folder("two")
    with other.lock():
        other.write(instance("two"))
    with pytest.raises(UserError, match="running: two"):
        folder.require()


def test_a_full_disk_ends_nothing_and_is_caught_up_with(folder: Folder) -> None:
    with folder.lock():
        record = Record(folder, instance())
        full = folder.path / "state.tmp"
        full.symlink_to("/dev/full")
        record.update(phase="ready")
        assert record.instance.phase == "ready"
        assert folder.require().phase == "starting"
        full.unlink()
        record.update(phase="ready")
        assert folder.require().phase == "ready"


def test_without_room_for_it_nothing_starts(folder: Folder) -> None:
    with folder.lock():
        (folder.path / "state.tmp").symlink_to("/dev/full")
        with pytest.raises(UserError, match="No space left on device"):
            Record(folder, instance())


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"supervisor": 1}', '{"supervisor": {}, "processes": []}'])
def test_a_state_file_that_cannot_be_read_is_named(folder: Folder, text: str) -> None:
    with folder.lock():
        (folder.path / "state.json").write_text(text)
    with pytest.raises(UserError, match=r"state\.json: cannot be read .*remove it"):
        folder.read()


def test_what_an_earlier_version_started_is_not_taken_for_dead(folder: Folder) -> None:
    with folder.lock():
        folder.write(instance())
    state = folder.path / "state.json"
    state.write_text(re.sub(r'"created": "[^"]*"', '"created": 1763844287.32', state.read_text()))
    with pytest.raises(UserError, match=r"created: 1763844287\.32"):
        folder.read()


def test_without_room_for_its_lock_nothing_starts(folder: Folder) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # no file may grow
    try:
        with pytest.raises(UserError, match="cannot be written"), folder.lock():
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_new_pid_of_a_part_takes_the_place_of_the_old(folder: Folder) -> None:
    with folder.lock():
        record = Record(folder, instance())
        record.track({"gateway": os.getpid(), "head": os.getpid()})
        record.track({"gateway": os.getppid()})
    assert [(process.part, process.pid) for process in record.instance.processes] == [
        ("head", os.getpid()),
        ("gateway", os.getppid()),
    ]


def test_kill_ends_a_process_and_those_under_it_but_not_a_namesake() -> None:
    shell = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    bystander = subprocess.Popen(SLEEP)
    assert shell.stdout
    below = ProcessId.of("sleep", int(shell.stdout.readline()))
    mine, other = ProcessId.of("shell", shell.pid), ProcessId.of("other", bystander.pid)
    assert below and mine and other
    kill([mine, replace(other, created="earlier")])
    assert below.find() is None
    assert shell.wait() == -9
    shell.stdout.close()
    assert bystander.poll() is None
    kill([other])
    assert bystander.wait() == -9


def test_a_clock_that_is_set_makes_nobody_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ProcessId.of("me", os.getpid())
    assert mine
    booted = psutil.boot_time()
    monkeypatch.setattr("psutil._psplatform.boot_time", lambda: booted + 1)  # what the kernel tells once the clock was set
    assert mine.find() == psutil.Process()
    assert ProcessId.of("me", os.getpid()) == mine


def test_logs_of_the_run_before_are_kept_once(folder: Folder) -> None:
    for run in ("first", "second", "third"):
        folder.rotate_logs()
        (folder.logs / f"{run}.jsonl").touch()
    assert [file.name for file in folder.logs.iterdir()] == ["third.jsonl"]
    assert [file.name for file in (folder.path / "logs.previous").iterdir()] == ["second.jsonl"]
