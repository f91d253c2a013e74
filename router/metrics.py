"""What a router tells Prometheus. Names and meanings: docs/metrics.md."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from router.policy import Outstanding

STATES = ("connecting", "ready", "ejected")
TTFT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
INTER_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10)


class RouterMetrics:
    """The router's metrics in `registry`; one Router per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter("ossia_router_requests", "Requests ended.", ["outcome"], registry=registry)
        self.prompt_tokens = Counter("ossia_router_prompt_tokens", "Prompt tokens accepted.", registry=registry)
        self.output_tokens = Counter("ossia_router_output_tokens", "Output tokens delivered.", registry=registry)
        self.resumed = Counter("ossia_router_resumed_requests", "Requests moved to another replica.", registry=registry)
        self.queued = Gauge("ossia_router_queued_requests", "Requests that wait for a replica.", registry=registry)
        self.ttft = Histogram(
            "ossia_router_time_to_first_token_seconds", "From submit to first token.", buckets=TTFT_S, registry=registry
        )
        self.inter_token = Histogram(
            "ossia_router_inter_token_seconds",
            "Mean gap between a delta's tokens.",
            buckets=INTER_TOKEN_S,
            registry=registry,
        )
        self._state = Gauge("ossia_router_replica_state", "1 for the replica's state.", ["replica", "state"], registry=registry)
        self._in_flight = Gauge(
            "ossia_router_replica_outstanding_tokens", "Outstanding tokens at the replica.", ["replica"], registry=registry
        )

    def follow(self, name: str, state: str, outstanding: Outstanding) -> None:
        """Shows one replica from now on: its state, one of STATES, and what it owes whenever Prometheus asks."""
        self.state(name, state)
        self._in_flight.labels(name).set_function(lambda: outstanding.tokens)

    def state(self, name: str, state: str) -> None:
        for each in STATES:
            self._state.labels(name, each).set(each == state)

    def forget(self, name: str) -> None:
        """The replica left the fleet."""
        for state in STATES:
            self._state.remove(name, state)
        self._in_flight.remove(name)
