"""Processes written down so that another command can end them later: a pid alone may by then be somebody else's."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import psutil

from cluster import processes


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
            if abs(process.create_time() - self.created) < 0.1 and processes.runs(process):
                return process
        return None


def kill(identities: Iterable[ProcessId]) -> None:
    """SIGKILL to each that is still itself and then to all under it, lest it act on their end; returns when they are gone."""
    roots = [process for process in (identity.find() for identity in identities) if process]
    processes.kill(dict.fromkeys(process for root in roots for process in (root, *processes.below(root))))
