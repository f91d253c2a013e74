"""What probes and Prometheus ask: /health, /ready, /metrics, /metrics/targets."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router.engine import Engine, EngineError
from router.gateway.entry import Admission


@dataclass(frozen=True)
class Target:
    """One process's Prometheus endpoint (host:port, path /metrics) and what it is: part, replica, rank, pid."""

    address: str
    labels: dict[str, str] = field(default_factory=dict)


def engine_readiness(engine: Engine) -> Callable[[], Awaitable[str | None]]:
    """Asks the engine: ready once it answers and says that it generated a token."""

    async def unready() -> str | None:
        try:
            card = await engine.describe()
        except EngineError as error:
            return error.message
        return None if card.ready else "no replica has generated a token yet"

    return unready


class Health:
    """`unready` says why requests cannot be served yet, None when they can."""

    def __init__(
        self,
        registry: CollectorRegistry,
        admission: Admission,
        unready: Callable[[], Awaitable[str | None]],
        targets: Callable[[], Iterable[Target]],
    ) -> None:
        self._registry = registry
        self._admission = admission
        self._unready = unready
        self._targets = targets

    async def health(self, request: Request) -> Response:
        """The process runs."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """A fleet source has answered and a replica generated a token: requests may come."""
        reason = "shutting down" if self._admission.closed else await self._unready()
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "unready", "reason": reason}, 503)

    async def metrics(self, request: Request) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def targets(self, request: Request) -> Response:
        """Prometheus HTTP service discovery (https://prometheus.io/docs/prometheus/latest/http_sd/)."""
        return JSONResponse([{"targets": [target.address], "labels": target.labels} for target in self._targets()])
