"""How much memory this host has left for ranks, the limit of the container included."""

from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")  # version 2, as a container sees its own


def available(cgroup: Path = CGROUP) -> int:
    """Bytes that new processes may take before the kernel swaps or kills: the host's, or the container's where that is less."""
    host: int = psutil.virtual_memory().available
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        statistics = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except FileNotFoundError:
        return host  # no limit of its own: not in a container, or version 1
    if limit == "max":
        return host
    reclaimable = int(statistics.get("inactive_file", 0))
    return max(0, min(host, int(limit) - used + reclaimable))
