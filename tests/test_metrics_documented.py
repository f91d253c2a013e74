"""docs/metrics.md names every metric of every process with its type, and no other."""

import re
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric

from cluster.fleet import Fleet
from router.gateway.metrics import Metrics as GatewayMetrics
from router.metrics import RouterMetrics
from router.tools.metrics import ToolMetrics
from workers.metrics import Metrics as WorkerMetrics

PAGE = Path(__file__).parents[1] / "docs/metrics.md"
ROW = re.compile(r"^\| `(ossia_\w+)` \| (\w+) \|", re.MULTILINE)
SUPERVISOR = ("ossia_supervisor_restarts_total", "counter")  # registered by `ossia serve`, for the life of its process
HEAD = ("ossia_head_gcs_up", "gauge")  # registered by the head's process
PARENT = ("ossia_gateway_process_restarts_total", "counter")  # registered by the parent of several gateway processes


def test_every_metric_is_documented_and_no_other() -> None:
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    ToolMetrics(registry)
    RouterMetrics(registry)
    WorkerMetrics(registry)
    known = set(_rows([*registry.collect(), *Fleet([], []).collect()]))
    assert set(ROW.findall(PAGE.read_text())) == known | {SUPERVISOR, HEAD, PARENT}


def _rows(families: Iterable[Metric]) -> Iterable[tuple[str, str]]:
    for family in families:
        yield family.name + ("_total" if family.type == "counter" else ""), family.type
