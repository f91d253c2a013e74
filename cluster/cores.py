"""How many cores this host gives its processes, the limit of the container included. No Ray, no torch."""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # version 2, as a container sees its own


def available(cgroup: Path = CGROUP) -> int:
    """At least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except FileNotFoundError:
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
