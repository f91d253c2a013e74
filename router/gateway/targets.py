"""Every process of the cluster that Prometheus should scrape, as the router knows them."""

from collections.abc import Iterator

from router.gateway.health import Target
from router.router import Router


def targets(router: Router, own: str, pid: int) -> Iterator[Target]:
    """This gateway (its address is `own`), then the other processes, then the ranks. One a process."""
    yield Target(own, {"part": "gateway", "pid": str(pid)})
    for process in router.processes():
        if process.metrics_address not in ("", own):
            yield Target(process.metrics_address, {"part": process.part, "pid": str(process.pid)})
    for replica in router.replicas():
        for rank in replica.ranks:
            if rank.metrics_address:
                labels = {"part": "rank", "replica": replica.name, "rank": str(rank.rank), "pid": str(rank.pid)}
                yield Target(rank.metrics_address, labels)
