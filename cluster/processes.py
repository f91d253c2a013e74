"""Processes of this host: killing them for sure, waiting for their end, and finding all that belong to one Ray."""

import ctypes
import math
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

POLL_S = 0.02  # the kernel tells the end of a process to its parent alone
KILL_TIMEOUT_S = 10.0  # for the kernel to take back what a killed process held
ACTOR_TITLE = "ray::"  # how Ray titles the process of an actor, and its agents
PR_SET_CHILD_SUBREAPER = 36  # of Linux' prctl(2)


def kill_actors(pids: Iterable[int]) -> None:
    """SIGKILL, which ends a stopped process too; a pid that has meanwhile gone to another program is left alone."""
    kill([process for process in map(find, pids) if process and _title(process).startswith(ACTOR_TITLE)])


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL to each; returns when they are gone."""
    doomed = list(processes)
    for process in doomed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    wait(doomed, KILL_TIMEOUT_S)


def kill_below() -> None:
    """SIGKILL to everything below this process; returns when it is gone."""
    for _ in range(2):  # before it dies a process may start one more
        kill(below(psutil.Process()))


def adopt_orphans() -> None:
    """What is below this process stays so when its own parent dies, as agents that outlive their raylet. On Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def wait(processes: Iterable[psutil.Process], timeout_s: float = math.inf) -> None:
    """Returns when all have ended. A zombie has: in a container there may be nobody to take its exit code."""
    left, deadline = list(processes), time.monotonic() + timeout_s
    while any(map(runs, left)) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def runs(process: psutil.Process) -> bool:
    """It is still itself and has not ended."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def alive(pid: int) -> bool:
    """The process exists and has not ended."""
    process = find(pid)
    return process is not None and runs(process)


def below(root: psutil.Process) -> list[psutil.Process]:
    """Everything that `root` started, and what those started."""
    with suppress(psutil.NoSuchProcess):
        return root.children(recursive=True)
    return []


def of_ray(folder: Path) -> list[psutil.Process]:
    """Every process of the Ray whose temporary folder this is: whose arguments name a file in it, and all below them.

    One that has a title in the place of its arguments is known by its logs.
    """
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            names = process.cmdline()
            if names and names[0].startswith(ACTOR_TITLE):
                names = [file.path for file in process.open_files()]
            if any(f"{folder}/session_" in name for name in names):
                found |= {each.pid: each for each in (process, *below(process))}
    return list(found.values())


def find(pid: int) -> psutil.Process | None:
    """What has this pid now; as an object it is never taken for a later process of the same pid."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid)
    return None


def _title(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""
