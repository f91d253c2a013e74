"""Metrics as text, in the format that an Accept header asks for. Knows no metric."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

_QUALITY = re.compile(r"[01](\.\d{0,3})?")


@dataclass(frozen=True)
class Format:
    """How metrics are told, and what HTTP calls that."""

    encode: Callable[[Collector], bytes]
    media_type: str


PROMETHEUS = Format(generate_latest, CONTENT_TYPE_PLAIN_0_0_4)
OPENMETRICS = Format(openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST)
"""The one that has exemplars (https://prometheus.io/docs/specs/om/open_metrics_spec/#exemplars)."""
_FORMATS = {  # by media type and version
    ("text/plain", ""): PROMETHEUS,
    ("text/plain", "0.0.4"): PROMETHEUS,
    ("application/openmetrics-text", ""): OPENMETRICS,
    ("application/openmetrics-text", "1.0.0"): OPENMETRICS,
}


def accepted(accept: str) -> Format:
    """The one that is liked best, the first of equals, and Prometheus' own for whoever names none, as its exporters choose
    (https://prometheus.io/docs/instrumenting/content_negotiation/). A media type of ours asks for its own format.
    """
    kinds = sorted(map(_kind, accept.split(",")), key=lambda kind: kind[0], reverse=True)
    return next((_FORMATS[told] for quality, told in kinds if quality and told in _FORMATS), PROMETHEUS)


def _kind(text: str) -> tuple[float, tuple[str, str]]:
    """How much it is liked, its media type and its version (https://www.rfc-editor.org/rfc/rfc9110#section-12.4.2)."""
    name, *parts = text.lower().split(";")
    given = dict(part.strip().partition("=")[::2] for part in parts)
    quality = given.get("q", "1")
    return float(quality) if _QUALITY.fullmatch(quality) else 0.0, (name.strip(), given.get("version", ""))
