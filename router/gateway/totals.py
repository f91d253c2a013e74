"""The metrics of several processes as those of one. Knows neither processes nor names of ours.

Counts, histograms and gauges are sums; of what no sum makes sense for, the least (`LEAST`, and when a count began). A counter
must never fall, which Prometheus takes for a restart: what processes that have ended counted stays in the sums. Exemplars are
the newest. Processes tell theirs as OpenMetrics (https://prometheus.io/docs/specs/om/open_metrics_spec/).
"""

from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

LEAST = frozenset({"process_start_time_seconds", "process_max_fds", "python_info"})
_COUNTED = frozenset({"counter", "histogram", "summary"})
_Key = tuple[str, tuple[tuple[str, str], ...]]  # a sample's name and labels


class Totals:
    """Sums over the processes that live, and over what ended ones counted."""

    def __init__(self) -> None:
        self._ended: list[Metric] = []

    def ended(self, text: str) -> None:
        """Takes in the last that a process told: its gauges end with it, its counts do not."""
        self._ended = [family for family in _sums([*self._ended, *_families(text)]) if family.type in _COUNTED]

    def of(self, texts: Iterable[str]) -> Collector:
        """All that the processes that live told, to be told as one's."""
        told = (family for text in texts for family in _families(text))
        return _Summed(list(_sums([*self._ended, *told])))


class _Summed(Collector):
    """Metric families where prometheus_client expects a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _families(text: str) -> Iterator[Metric]:
    """Nothing is what a process told that was never asked."""
    return text_string_to_metric_families(text) if text else iter(())  # type: ignore[no-untyped-call]


def _sums(families: Iterable[Metric]) -> Iterator[Metric]:
    kinds: dict[str, Metric] = {}
    samples: dict[str, dict[_Key, Sample]] = {}
    for family in families:
        kinds.setdefault(family.name, family)
        sums = samples.setdefault(family.name, {})
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            sums[key] = _joined(sums[key], sample) if key in sums else sample
    for name, family in kinds.items():
        total = Metric(name, family.documentation, family.type)
        total.samples = list(samples[name].values())
        yield total


def _joined(one: Sample, other: Sample) -> Sample:
    least = one.name in LEAST or one.name.endswith("_created")
    value = min(one.value, other.value) if least else one.value + other.value
    return one._replace(value=value, exemplar=max(one.exemplar, other.exemplar, key=_time))


def _time(exemplar: Exemplar | None) -> float:
    return float(exemplar.timestamp or 0) if exemplar else -1.0
