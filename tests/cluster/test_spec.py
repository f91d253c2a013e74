"""The head's spec survives its journey as JSON, and refuses what cannot be."""

import json
from dataclasses import asdict

import pytest

from cluster.spec import HeadSpec, Survivor
from ossia.common.errors import UserError
from ossia.common.metrics import Endpoint
from workers.model.layout import Layout
from workers.runner.spec import RunnerSpec

RUNNER = RunnerSpec("checkpoint", Layout(2, "tp"))


def test_json_and_back() -> None:
    endpoints = (Endpoint("gateway", 1, "127.0.0.1", "127.0.0.1:2"),)
    survivors = (Survivor("replica-0", "127.0.0.1:3", (4, 5), 6),)
    spec = HeadSpec("test", 1, RUNNER, ("a", "b"), "logs", token="t", processes=endpoints, survivors=survivors)
    assert HeadSpec.parse(json.dumps(asdict(spec))) == spec


def test_replicas_cannot_share_a_leader_port() -> None:
    with pytest.raises(UserError, match="2 replicas cannot share leader port 9000"):
        HeadSpec("test", 2, RUNNER, ("a",), "logs", leader_port=9000)


@pytest.mark.parametrize("field", ["node_ip", "leader_host"])
def test_listening_beyond_loopback_demands_a_token(field: str) -> None:
    with pytest.raises(UserError, match=r"OSSIA_TOKEN"):
        HeadSpec("test", 1, RUNNER, ("a",), "logs", **{field: "0.0.0.0"})  # type: ignore[arg-type]
    assert HeadSpec("test", 1, RUNNER, ("a",), "logs", token="secret", **{field: "0.0.0.0"})  # type: ignore[arg-type]
