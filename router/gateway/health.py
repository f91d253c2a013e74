"""What probes and Prometheus ask: /health, /ready, /metrics, /metrics/targets."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NotRequired

from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typing_extensions import TypedDict

from router.engine import Engine, EngineError
from router.gateway.entry import Admission
from router.gateway.exposition import Format, accepted
from router.gateway.openapi import Operation
from router.gateway.query import AnyQuery


@dataclass(frozen=True)
class Target:
    """One process's Prometheus endpoint (host:port, path /metrics) and what it is: part, replica, rank, pid."""

    address: str
    labels: dict[str, str] = field(default_factory=dict)


class TargetGroup(TypedDict):
    """As Prometheus discovers services."""

    targets: list[str]
    labels: dict[str, str]


class State(TypedDict):
    """`reason` says why requests cannot be served yet."""

    status: str
    reason: NotRequired[str]


def engine_readiness(engine: Engine) -> Callable[[], Awaitable[str | None]]:
    """Asks the engine: ready once it answers and says that it generated a token."""

    async def unready() -> str | None:
        try:
            card = await engine.describe()
        except EngineError as error:
            return error.message
        return None if card.ready else "no replica has generated a token yet"

    return unready


def own(registry: CollectorRegistry) -> Callable[[Format], Awaitable[bytes]]:
    """What this process alone measures."""

    async def exposition(wanted: Format) -> bytes:
        return wanted.encode(registry)

    return exposition


class Health:
    """`exposition` is what /metrics shows, `unready` says why requests cannot be served yet, None when they can."""

    def __init__(
        self,
        exposition: Callable[[Format], Awaitable[bytes]],
        admission: Admission,
        unready: Callable[[], Awaitable[str | None]],
        targets: Callable[[], Iterable[Target]],
    ) -> None:
        self._exposition = exposition
        self._admission = admission
        self._unready = unready
        self._targets = targets

    def routes(self) -> Sequence[Route]:
        return [
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/metrics", self.metrics),
            Route("/metrics/targets", self.targets),
        ]

    @Operation("Operation", query=AnyQuery, answer=State)
    async def health(self, request: Request) -> Response:
        """The process runs."""
        return JSONResponse({"status": "ok"})

    @Operation("Operation", query=AnyQuery, answer=State, error=State)
    async def ready(self, request: Request) -> Response:
        """A fleet source has answered and a replica generated a token: requests may come."""
        reason = "shutting down" if self._admission.closed else await self._unready()
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "unready", "reason": reason}, 503)

    @Operation("Operation", query=AnyQuery, answer=str, gives="text/plain")
    async def metrics(self, request: Request) -> Response:
        """Metrics in Prometheus' text format, or with exemplars as OpenMetrics, where the Accept header prefers that."""
        wanted = accepted(request.headers.get("accept", ""))
        return Response(await self._exposition(wanted), media_type=wanted.media_type)

    @Operation("Operation", query=AnyQuery, answer=list[TargetGroup])
    async def targets(self, request: Request) -> Response:
        """Prometheus HTTP service discovery (https://prometheus.io/docs/prometheus/latest/http_sd/)."""
        return JSONResponse([{"targets": [target.address], "labels": target.labels} for target in self._targets()])
