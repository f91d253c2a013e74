"""The metrics of several processes as those of one, in Prometheus' text format. Knows neither processes nor names of ours.

Counts, histograms and gauges are sums; of what no sum makes sense for, the least (`LEAST`, and when a count began). A counter
must never fall, which Prometheus takes for a restart: what processes that have ended counted stays in the sums.
https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from collections.abc import Iterable, Iterator

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

LEAST = frozenset({"process_start_time_seconds", "process_max_fds", "python_info"})
_COUNTED = frozenset({"counter", "histogram", "summary"})
_Key = tuple[str, tuple[tuple[str, str], ...]]  # a sample's name and labels


class Totals:
    """Sums over the processes that live, and over what ended ones counted."""

    def __init__(self) -> None:
        self._ended = ""

    def ended(self, text: str) -> None:
        """Takes in the last that a process told: its gauges end with it, its counts do not."""
        self._ended = _text(family for family in _sums([self._ended, text]) if _lasts(family))

    def of(self, texts: Iterable[str]) -> str:
        """One exposition of those of the processes that live."""
        return _text(_sums([self._ended, *texts]))


class _Families(Collector):
    """Metric families where prometheus_client expects a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _text(families: Iterable[Metric]) -> str:
    return generate_latest(_Families(families)).decode()


def _sums(texts: Iterable[str]) -> Iterator[Metric]:
    families: dict[str, Metric] = {}
    values: dict[str, dict[_Key, float]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            families.setdefault(family.name, family)
            sums = values.setdefault(family.name, {})
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                sums[key] = _joined(family.name, sums[key], sample.value) if key in sums else sample.value
    for name, family in families.items():
        total = Metric(name, family.documentation, family.type)
        for (sample_name, labels), value in values[name].items():
            total.add_sample(sample_name, dict(labels), value)
        yield total


def _joined(family: str, one: float, other: float) -> float:
    return min(one, other) if family in LEAST or _is_beginning(family) else one + other


def _is_beginning(family: str) -> bool:
    """Whether it says when another one began to count."""
    return family.endswith("_created")


def _lasts(family: Metric) -> bool:
    return family.type in _COUNTED or _is_beginning(family.name)
