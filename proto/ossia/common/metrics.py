"""A process's Prometheus endpoint. Names are listed in docs/metrics.md; every one starts with `ossia_`."""

from dataclasses import dataclass

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server

from ossia.common.errors import UserError


@dataclass(frozen=True)
class Endpoint:
    """A process that has metrics and is no rank: the fields of the protocol's Process, as values that travel as JSON."""

    part: str
    pid: int  # 0 where that may change while the rest does not
    node: str
    metrics_address: str  # host:port, as others reach it


def serve(host: str, port: int = 0, registry: CollectorRegistry = REGISTRY) -> str:
    """Serves /metrics in a daemon thread for the life of the process; port 0 picks a free one. Returns host:port.

    Raises UserError when the port cannot be had.
    """
    name = f"[{host}]" if ":" in host else host
    try:
        server, _ = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise UserError(f"cannot serve metrics on {name}:{port}: {error.strerror}; choose another port") from error
    return f"{name}:{server.server_port}"
