"""Metrics as text, in the format that an Accept header asks for. Knows no metric."""

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector


@dataclass(frozen=True)
class Format:
    """How metrics are told, and what HTTP calls that."""

    encode: Callable[[Collector], bytes]
    media_type: str


PROMETHEUS = Format(generate_latest, CONTENT_TYPE_LATEST)
OPENMETRICS = Format(openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST)
"""The one that has exemplars (https://prometheus.io/docs/specs/om/open_metrics_spec/#exemplars)."""


def accepted(accept: str) -> Format:
    """OpenMetrics for those who say that they read it, as Prometheus does. A media type of ours asks for its own format."""
    kinds = {kind.partition(";")[0].strip() for kind in accept.split(",")}
    return OPENMETRICS if OPENMETRICS.media_type.partition(";")[0] in kinds else PROMETHEUS
