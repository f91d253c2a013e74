"""Processes of this host: killing them for sure, waiting for their end, and finding all that belong to one Ray."""

import math
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

POLL_S = 0.02  # the kernel tells the end of a process to its parent alone
KILL_TIMEOUT_S = 10.0  # for the kernel to take back what a killed process held
ACTOR_TITLE = "ray::"  # how Ray titles the process of an actor


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
    """Every process of the Ray whose temporary folder this is: those whose arguments name a file in it, and all below them."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if any(f"{folder}/session_" in argument for argument in process.cmdline()):
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
