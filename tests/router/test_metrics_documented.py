"""docs/metrics.md names every metric of the router, and no other."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from router.metrics import RouterMetrics

DOCUMENT = Path(__file__).parents[2] / "docs/metrics.md"


def test_metrics_are_documented() -> None:
    registry = CollectorRegistry()
    RouterMetrics(registry)
    names = {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}
    assert names == set(re.findall(r"`(ossia_router_\w+)`", DOCUMENT.read_text()))
