"""What calls of tools come to; docs/metrics.md lists it."""

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class ToolMetrics:
    """One process's instruments, on the registry that its /metrics shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "ossia_gateway_tool_calls", "Calls of tools, by what came of them.", ["server", "outcome"], registry=registry
        )
        self.seconds = Histogram(
            "ossia_gateway_tool_call_seconds", "From a call to its result.", ["server"], buckets=_SECONDS, registry=registry
        )
