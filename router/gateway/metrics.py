"""The gateway's Prometheus metrics; docs/metrics.md lists them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 5)


class Metrics:
    """One process's instruments, on the registry that its /metrics shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "ossia_gateway_requests", "Requests answered; status 499: the client left.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "ossia_gateway_request_seconds",
            "From a request's arrival to its end.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("ossia_gateway_in_flight_requests", "Requests of /v1 being served.", registry=registry)
        self.first_token = Histogram(
            "ossia_gateway_time_to_first_token_seconds", "From Submit to the first token.", buckets=_SECONDS, registry=registry
        )
        self.inter_token = Histogram(
            "ossia_gateway_inter_token_seconds",
            "Time between deltas, divided by the tokens of the later one.",
            buckets=_TOKEN_SECONDS,
            registry=registry,
        )
        self.prompt_tokens = Counter("ossia_gateway_prompt_tokens", "Tokens of prompts submitted.", registry=registry)
        self.output_tokens = Counter("ossia_gateway_output_tokens", "Tokens received from the engine.", registry=registry)
        self.repairs = Counter(
            "ossia_gateway_harmony_repairs", "Places where a model's harmony was malformed and mended.", registry=registry
        )


def exemplar(traceparent: str) -> dict[str, str] | None:
    """What links a measurement to its trace, where that is recorded (https://www.w3.org/TR/trace-context/#sampled-flag)."""
    return {"trace_id": traceparent[3:35]} if traceparent and int(traceparent[-2:], 16) & 1 else None
