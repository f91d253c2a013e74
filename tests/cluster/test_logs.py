"""Merging, filtering and following log files."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import logs
from cluster.state import Folder
from ossia.common.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = Folder("ossia")
    folder.rotate_logs()
    return folder


def line(second: int, part: str) -> str:
    return json.dumps({"time": f"2026-01-01T00:00:{second:02}.000+00:00", "part": part, "message": f"{part} at {second}"})


def write(folder: Folder, name: str, *lines: str) -> None:
    with (folder.logs / f"{name}.jsonl").open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def shown(part: str | None = None) -> list[str]:
    out = io.StringIO()
    logs.show("ossia", part, False, out)
    return out.getvalue().splitlines()


def test_all_processes_by_time_what_is_no_json_after_the_line_before_it(folder: Folder) -> None:
    write(folder, "gateway", line(1, "gateway"), "Fatal Python error", line(4, "gateway"))
    write(folder, "replica-0-rank-1", line(2, "replica-0/rank-1"), line(3, "replica-0/rank-1"))
    assert shown() == [
        line(1, "gateway"),
        "Fatal Python error",
        line(2, "replica-0/rank-1"),
        line(3, "replica-0/rank-1"),
        line(4, "gateway"),
    ]


def test_a_part_and_the_parts_of_a_replica(folder: Folder) -> None:
    write(folder, "a", line(1, "replica-0/rank-0"), line(3, "replica-01"))
    write(folder, "b", line(2, "replica-0/rank-1"))
    assert shown("replica-0") == [line(1, "replica-0/rank-0"), line(2, "replica-0/rank-1")]
    assert shown("replica-0/rank-1") == [line(2, "replica-0/rank-1")]
    with pytest.raises(UserError, match="no logs of 'gatway'; parts: replica-0/rank-0, replica-0/rank-1, replica-01"):
        shown("gatway")


def test_no_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(UserError, match="no logs of an instance 'ossia'"):
        shown()


def test_a_line_is_read_once_it_is_whole(folder: Folder) -> None:
    file = folder.logs / "x.jsonl"
    file.write_text("first\nsec")
    reader = logs.Logs(folder.logs, None)
    assert list(reader.read()) == ["first"]
    with file.open("a") as stream:
        stream.write("ond\n")
    assert list(reader.read()) == ["second"]
    assert list(reader.read()) == []
    reader.close()


def test_a_file_that_vanishes_meanwhile_is_none(folder: Folder) -> None:
    write(folder, "a", line(1, "a"))
    (folder.logs / "gone.jsonl").symlink_to(folder.logs / "no such file")  # listed, and not there any more
    assert shown() == [line(1, "a")]


def test_a_file_that_is_cut_short_is_read_from_its_start(folder: Folder) -> None:
    """As logrotate's copytruncate does."""
    write(folder, "a", line(1, "a"), line(2, "a"))
    reader = logs.Logs(folder.logs, None)
    assert len(list(reader.read())) == 2
    os.truncate(folder.logs / "a.jsonl", 0)
    write(folder, "a", line(3, "a"))
    assert list(reader.read()) == [line(3, "a")]
    reader.close()


def test_follow_sees_new_files_and_a_new_run(folder: Folder) -> None:
    write(folder, "a", line(1, "a"))
    command = [sys.executable, "-m", "cluster.cli", "logs", "-f"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as process:
        assert process.stdout
        assert process.stdout.readline() == line(1, "a") + "\n"
        write(folder, "b", line(2, "b"))
        assert process.stdout.readline() == line(2, "b") + "\n"
        folder.rotate_logs()
        write(folder, "a", line(3, "a"))
        assert process.stdout.readline() == line(3, "a") + "\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
