"""A head that gets SIGTERM as soon as its Ray has started: python -m tests.fakes.stopped_head --spec FILE."""

import signal
import subprocess
from collections.abc import Iterable

import psutil

from cluster import head, reaper

if __name__ == "__main__":
    real = reaper.start

    def start(doomed: Iterable[psutil.Process]) -> "subprocess.Popen[bytes]":
        signal.raise_signal(signal.SIGTERM)
        return real(doomed)

    reaper.start = start
    head.main()
