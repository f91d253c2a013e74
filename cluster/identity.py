"""Processes written down so that another command can end them later: a pid alone may by then be somebody else's."""

import math
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import psutil

POLL_S = 0.02  # the kernel tells the end of a process to its parent alone
KILL_TIMEOUT_S = 10.0  # for the kernel to take back what a killed process held


@dataclass(frozen=True)
class ProcessId:
    """A process, told apart by the time of its creation from a later one that was given the same pid."""

    part: str
    pid: int
    created: float  # seconds since the Unix epoch

    @classmethod
    def of(cls, part: str, pid: int) -> "ProcessId | None":
        """None where there is no such process."""
        try:
            return cls(part, pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def find(self) -> psutil.Process | None:
        """The process while it is still this one and has not ended."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.created) < 0.1 and _runs(process):
                return process
        return None


def kill(processes: Iterable[ProcessId]) -> None:
    """SIGKILL to each that is still itself and to all under it; returns when they are gone."""
    doomed: dict[int, psutil.Process] = {}
    for root in filter(None, [process.find() for process in processes]):
        with suppress(psutil.NoSuchProcess):
            doomed |= {process.pid: process for process in [root, *root.children(recursive=True)]}
    for process in doomed.values():
        with suppress(psutil.NoSuchProcess):
            process.kill()
    wait(list(doomed.values()), KILL_TIMEOUT_S)


def wait(processes: list[psutil.Process], timeout_s: float = math.inf) -> None:
    """Returns when all have ended. A zombie has: in a container there may be nobody to take its exit code."""
    deadline = time.monotonic() + timeout_s
    while any(map(_runs, processes)) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
