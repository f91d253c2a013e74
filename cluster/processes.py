"""Processes of this host that Ray started: killing them for sure, and finding all that belong to one Ray."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

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
    psutil.wait_procs(doomed, timeout=KILL_TIMEOUT_S)


def alive(pid: int) -> bool:
    """The process exists and has not ended."""
    process = find(pid)
    with suppress(psutil.NoSuchProcess):
        return process is not None and process.status() != psutil.STATUS_ZOMBIE
    return False


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
