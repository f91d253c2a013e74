"""A process's Prometheus endpoint. Names are listed in docs/metrics.md; every one starts with `ossia_`."""

from prometheus_client import start_http_server


def serve(host: str, port: int = 0) -> str:
    """Serves /metrics in a daemon thread for the life of the process; port 0 picks a free one. Returns host:port."""
    server, _ = start_http_server(port, addr=host)
    return f"{host}:{server.server_port}"
