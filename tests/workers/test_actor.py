"""What a rank's actor tells others of the shard in it: addresses that they reach, and where a refusal comes from."""

from types import SimpleNamespace

import pytest
import ray

from ossia.common import wire
from ossia.common.errors import UserError
from workers import actor
from workers.model.layout import Layout
from workers.runner.spec import RunnerSpec
from workers.shard import ShardSpec


@pytest.fixture(autouse=True)
def node(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray on loopback alone."""
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "node"))


def rank(host: str, checkpoint: str = "fine") -> actor.Rank:
    runner = RunnerSpec(checkpoint, Layout(2))
    spec = ShardSpec("replica-0", 1, runner, ("model",), host, 0, "token", None, 0.0)
    return actor.Rank(spec, 0, "tests.fakes.shard:Shard")


def test_every_interface_is_told_as_the_address_that_others_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "own_address", lambda: "192.0.2.7")
    info = rank("0.0.0.0").prepare().info
    assert info.metrics_address == "192.0.2.7:1"
    assert info.rendezvous == "127.0.0.1:2", "ranks meet inside the host: nothing guards the store"


def test_by_default_everything_is_on_the_address_of_the_node() -> None:
    info = rank("").prepare().info
    assert (info.metrics_address, info.rendezvous) == ("127.0.0.1:1", "127.0.0.1:2")


def test_a_refusal_names_the_rank_and_its_node() -> None:
    with pytest.raises(UserError, match=r"^rank 0 on 127\.0\.0\.1: the checkpoint is not gpt-oss"):
        rank("", "refuse").prepare()


def test_collectives_use_the_interface_of_the_node_address() -> None:
    assert actor._interface("127.0.0.1").startswith("lo")
    with pytest.raises(UserError, match=r"has the address 192\.0\.2\.250"):
        actor._interface("192.0.2.250")
