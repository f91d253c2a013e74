"""The metrics of several processes, added up."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from router.gateway.exposition import OPENMETRICS, PROMETHEUS
from router.gateway.totals import Totals


class Process:
    """What a process measures."""

    def __init__(self, began: float) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("requests", "How many.", ["route"], registry=self.registry)
        self.seconds = Histogram("seconds", "How long.", buckets=[1, 2], registry=self.registry)
        self.inside = Gauge("inside", "Now.", registry=self.registry)
        Gauge("process_start_time_seconds", "When.", registry=self.registry).set(began)

    def text(self) -> str:
        return OPENMETRICS.encode(self.registry).decode()


def values(totals: Collector) -> dict[str, float]:
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(OPENMETRICS.encode(totals).decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def two() -> tuple[Process, Process]:
    one, other = Process(20.0), Process(10.0)
    one.requests.labels("/a").inc(3)
    other.requests.labels("/a").inc(4)
    other.requests.labels('/"b"\n').inc()
    for process, seconds in ((one, 0.5), (one, 1.5), (other, 5)):
        process.seconds.observe(seconds)
    one.inside.set(2)
    other.inside.set(1)
    return one, other


def test_counts_histograms_and_gauges_are_sums_and_a_beginning_is_the_first() -> None:
    one, other = two()
    assert values(Totals().of([one.text(), other.text()])) == {
        "requests_total/a": 7,
        'requests_total/"b"\n': 1,
        "seconds_bucket1.0": 1,
        "seconds_bucket2.0": 2,
        "seconds_bucket+Inf": 3,
        "seconds_count": 3,
        "seconds_sum": 7,
        "inside": 3,
        "process_start_time_seconds": 10,
    }


def test_one_process_is_told_as_it_tells_itself() -> None:
    one, _ = two()
    one.seconds.observe(1.2, {"trace_id": "a"})
    told = Totals().of([one.text()])
    for form in (OPENMETRICS, PROMETHEUS):
        assert lines(form.encode(told)) == lines(form.encode(one.registry))


def lines(text: bytes) -> list[bytes]:
    """In any order; a time may have more digits than it needs."""
    return sorted(line.rstrip(b"0") for line in text.splitlines())


def test_the_newest_exemplar_of_a_bucket_is_told() -> None:
    one, other = two()
    one.seconds.observe(1.2, {"trace_id": "older"})
    other.seconds.observe(1.4, {"trace_id": "newer"})
    one.seconds.observe(0.1, {"trace_id": "alone"})
    totals = Totals()
    totals.ended(other.text())
    told = [line for line in OPENMETRICS.encode(totals.of([one.text(), ""])).decode().splitlines() if " # " in line]
    assert len(told) == 2
    assert "alone" in told[0] and "newer" in told[1]


def test_what_an_ended_process_counted_stays_and_its_gauges_go() -> None:
    one, other = two()
    totals = Totals()
    totals.ended(other.text())
    again = Process(30.0)
    again.requests.labels("/a").inc()
    told = values(totals.of([one.text(), again.text()]))
    assert (told["requests_total/a"], told["seconds_count"], told["inside"]) == (8, 3, 2)
    assert told["process_start_time_seconds"] == 20
    totals.ended(again.text())
    assert values(totals.of([one.text()]))["requests_total/a"] == 8


def test_when_a_count_began_is_no_count() -> None:
    one, other = two()
    told = OPENMETRICS.encode(Totals().of([one.text(), other.text()])).decode()
    began = [line for line in told.splitlines() if line.startswith("seconds_created")]
    assert began == [line for line in one.text().splitlines() if line.startswith("seconds_created")]
