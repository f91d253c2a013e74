"""Prometheus metrics of one rank; docs/metrics.md lists them. Only the leader's step loop moves those of requests."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from workers.engine.report import Load, Report, Usage

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LONG_SECONDS = (*SECONDS[3:], 60.0, 120.0, 300.0, 600.0)
TOKENS = tuple(float(1 << exponent) for exponent in range(14))


class Metrics:
    """Made once in a process: a registry takes each name once."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"ossia_worker_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"ossia_worker_{name}", text, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"ossia_worker_{name}", text, buckets=buckets, registry=registry)

        self._requests = counter("requests", "Requests ended.", "finish")
        self._refused = counter("refused_requests", "Submissions refused before they ran.", "reason")
        self._resumed = counter("resumed_requests", "Requests that continued a broken one.")
        self._prompt = counter("prompt_tokens", "Prompt tokens of accepted requests.")
        self._output = counter("output_tokens", "Output tokens generated.")
        self._cached = counter("cached_tokens", "Prompt tokens of ended requests whose prefill was skipped.")
        self._drafted = counter("drafted_tokens", "Output tokens of ended requests that were drafted.")
        self._accepted = counter("accepted_tokens", "Drafted tokens of ended requests that proved right.")
        self._preemptions = counter("preemptions", "Requests whose blocks were taken back to be recomputed.")
        self._read = counter("checkpoint_read_bytes", "Bytes of the checkpoint read by this rank.")
        self._running = gauge("running_requests", "Requests that hold KV blocks.")
        self._waiting = gauge("waiting_requests", "Requests that wait to run, those whose grammar is compiled anew included.")
        self._prefill = gauge("prefill_queue_tokens", "Tokens not prefilled yet, over all requests.")
        self._kv_used = gauge("kv_used_tokens", "Tokens of KV cache in use in full layers, whole blocks.")
        self._kv_total = gauge("kv_total_tokens", "Tokens that the KV cache of full layers holds.")
        self._sliding_used = gauge("kv_sliding_used_tokens", "Tokens of KV cache in use in sliding layers, whole blocks.")
        self._sliding_total = gauge("kv_sliding_total_tokens", "Tokens that the KV cache of sliding layers holds.")
        self._step = histogram("step_seconds", "Duration of a step.", SECONDS)
        self._step_tokens = histogram("step_tokens", "Tokens computed in a step.", TOKENS)
        self._first_token = histogram("time_to_first_token_seconds", "From submission to the first token.", LONG_SECONDS)
        self._grammar = histogram("grammar_seconds", "From submission until its grammar is ready.", SECONDS)
        self._duration = histogram("request_seconds", "From submission to the end.", LONG_SECONDS)
        self._load = Load()

    def read(self, count: int) -> None:
        """So many bytes of the checkpoint were read."""
        self._read.inc(count)

    def received(self, prompt_tokens: int, resumed_tokens: int) -> None:
        self._prompt.inc(prompt_tokens)
        self._resumed.inc(resumed_tokens > 0)

    def refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    def generated(self, tokens: int) -> None:
        self._output.inc(tokens)

    def first_token(self, seconds: float) -> None:
        self._first_token.observe(seconds)

    def compiled(self, seconds: float) -> None:
        self._grammar.observe(seconds)

    def used(self, usage: Usage) -> None:
        self._cached.inc(usage.cached_tokens)
        self._drafted.inc(usage.drafted_tokens)
        self._accepted.inc(usage.accepted_tokens)

    def finished(self, finish: str, seconds: float) -> None:
        self._requests.labels(finish).inc()
        self._duration.observe(seconds)

    def stepped(self, report: Report) -> None:
        load = report.load
        self._preemptions.inc(load.preemptions - self._load.preemptions)
        self._load = load
        self._running.set(load.running)
        self._waiting.set(load.waiting)
        self._prefill.set(load.prefill_tokens)
        self._kv_used.set(load.kv_tokens_used)
        self._kv_total.set(load.kv_tokens_total)
        self._sliding_used.set(load.sliding_tokens_used)
        self._sliding_total.set(load.sliding_tokens_total)
        if report.step_tokens:
            self._step.observe(report.step_s)
            self._step_tokens.observe(report.step_tokens)
