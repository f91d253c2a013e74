"""Every process of the cluster that Prometheus should scrape, as the router knows them."""

from collections.abc import Iterator

from router.gateway.health import Target
from router.router import Router


def targets(router: Router, own: str, pid: int, scheme: str = "http") -> Iterator[Target]:
    """This gateway (its address is `own`, which it serves by `scheme`), then the other processes, then the ranks.

    One a process: routers that share replicas tell of the same ones.
    """
    yield Target(own, {"part": "gateway", "pid": str(pid)} | ({"__scheme__": scheme} if scheme != "http" else {}))
    known = {"", own}
    for target in _others(router):
        if target.address not in known:
            known.add(target.address)
            yield target


def _others(router: Router) -> Iterator[Target]:
    for process in router.processes():
        yield Target(process.metrics_address, {"part": process.part} | ({"pid": str(process.pid)} if process.pid else {}))
    for replica in router.replicas():
        for rank in replica.ranks:
            labels = {"part": "rank", "replica": replica.name, "rank": str(rank.rank), "pid": str(rank.pid)}
            yield Target(rank.metrics_address, labels)
