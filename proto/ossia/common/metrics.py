"""A process's Prometheus endpoint. Names are listed in docs/metrics.md; every one starts with `ossia_`."""

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server

from ossia.common.errors import UserError


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
