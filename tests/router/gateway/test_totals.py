"""The metrics of several processes, added up."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

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
        return generate_latest(self.registry).decode()


def values(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
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
    assert sorted(Totals().of([one.text()]).splitlines()) == sorted(one.text().splitlines())


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
    began = [line for line in Totals().of([one.text(), other.text()]).splitlines() if line.startswith("seconds_created")]
    assert began == [line for line in one.text().splitlines() if line.startswith("seconds_created")]
