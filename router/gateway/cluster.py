"""GET /v1/cluster: the replicas behind this gateway and their load, for the page and whoever else looks on."""

from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typing_extensions import TypedDict

from router.gateway.openapi import Operation
from router.roster import Standing
from router.router import Router


class RankView(TypedDict):
    rank: int
    pid: int
    node: str


class ReplicaView(TypedDict):
    """One replica, as this gateway last heard of it; all zero where it does not answer."""

    name: str
    state: str  # "starting", "failed", "connecting", "ready" or "ejected"
    dtype: str
    kernels: dict[str, str]
    ranks: list[RankView]
    running: int  # requests
    waiting: int  # requests
    prefill_tokens: int  # yet to be computed
    kv_tokens_used: int
    kv_tokens_total: int
    step_p99_ms: float
    tokens_generated: int  # since it started


class ClusterView(TypedDict):
    queued: int  # requests in the gateway that no replica can take yet
    replicas: list[ReplicaView]


def view(router: Router) -> ClusterView:
    """What the router knows."""
    return {"queued": router.queued, "replicas": [_replica(standing) for standing in router.standings()]}


def nothing() -> ClusterView:
    """Of a gateway without a router."""
    return {"queued": 0, "replicas": []}


def _replica(standing: Standing) -> ReplicaView:
    card, load = standing.card, standing.load
    return {
        "name": standing.entry.name,
        "state": standing.state,
        "dtype": card.dtype if card else "",
        "kernels": dict(card.kernels) if card else {},
        "ranks": [{"rank": rank.rank, "pid": rank.pid, "node": rank.node} for rank in standing.entry.ranks],
        "running": load.running,
        "waiting": load.waiting,
        "prefill_tokens": load.prefill_tokens,
        "kv_tokens_used": load.kv_tokens_used,
        "kv_tokens_total": load.kv_tokens_total,
        "step_p99_ms": round(load.step_p99_ms, 1),
        "tokens_generated": load.tokens_generated,
    }


class Cluster:
    """`seen` is what to show."""

    def __init__(self, seen: Callable[[], ClusterView]) -> None:
        self._seen = seen

    def routes(self) -> Sequence[Route]:
        return [Route("/v1/cluster", self.cluster)]

    @Operation("Operation", answer=ClusterView)
    async def cluster(self, request: Request) -> Response:
        """The replicas behind this gateway and their load, as last heard of; an extension."""
        return JSONResponse(self._seen())
