"""Ends what a killed head would leave: `python -m cluster.reaper PID...` kills those processes once its stdin is closed.

Ray's agents notice that their raylet died, but first report it to the GCS, for which they wait as long as everybody: a week.
"""

import subprocess
import sys
from collections.abc import Iterable

import psutil

from cluster import processes


def start(doomed: Iterable[psutil.Process]) -> "subprocess.Popen[bytes]":
    """The caller keeps what it gets: its end, however it comes, closes the pipe."""
    command = [sys.executable, "-m", "cluster.reaper", *(str(process.pid) for process in doomed)]
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, start_new_session=True)


def main() -> None:
    doomed = [process for process in map(processes.find, map(int, sys.argv[1:])) if process]
    sys.stdin.buffer.read()
    processes.kill(doomed)


if __name__ == "__main__":
    main()
