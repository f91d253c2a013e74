"""Processes written down so that another command can end them later: a pid alone may by then be somebody else's."""

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster import processes

BOOT = Path("/proc/sys/kernel/random/boot_id")  # of Linux, random(4)


@dataclass(frozen=True)
class ProcessId:
    """A process, told apart by its creation from a later one that was given the same pid."""

    part: str
    pid: int
    created: str

    @classmethod
    def of(cls, part: str, pid: int) -> "ProcessId | None":
        """None where there is no such process."""
        try:
            return cls(part, pid, _created(pid))
        except psutil.NoSuchProcess:
            return None

    @classmethod
    def me(cls, part: str) -> "ProcessId":
        return cls(part, os.getpid(), _created(os.getpid()))

    def find(self) -> psutil.Process | None:
        """The process while it is still this one and has not ended."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if _created(self.pid) == self.created and processes.runs(process):
                return process
        return None


def kill(identities: Iterable[ProcessId]) -> None:
    """SIGKILL to each that is still itself and then to all under it, lest it act on their end; returns when they are gone."""
    roots = [process for process in (identity.find() for identity in identities) if process]
    processes.kill(dict.fromkeys(process for root in roots for process in (root, *processes.below(root))))


def _created(pid: int) -> str:
    """When, on a clock that nobody sets: psutil's follows the host's. Raises psutil.NoSuchProcess."""
    if sys.platform != "linux":
        return str(psutil.Process(pid).create_time())
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        boot = BOOT.read_text().strip() if BOOT.exists() else ""
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    ticks = stat.rpartition(b")")[2].split()[19]  # since the boot: proc_pid_stat(5), its fields after the name
    return f"{ticks.decode()} of {boot}"
