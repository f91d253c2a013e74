"""Where bundles find no place, the refusal names the first of them, what it asks and what each node offers."""

from dataclasses import replace

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from cluster import placement
from cluster.placement import Node, PlacementError, divided, place, refusal
from cluster.spec import HeadSpec
from workers.model.layout import Layout
from workers.runner.spec import RunnerSpec

SPEC = HeadSpec("test", 2, RunnerSpec("checkpoint", Layout(2)), ("model",), "logs", cpus_per_rank=1)


def test_replicas_that_fit_are_not_refused() -> None:
    assert refusal(SPEC, SPEC.names, [Node("a", {"CPU": 2}), Node("b", {"CPU": 2})]) is None


def test_the_first_bundle_without_a_place_is_named() -> None:
    reason = refusal(SPEC, SPEC.names, [Node("a", {"CPU": 3})])
    assert reason is not None
    assert reason.startswith("replica-1 cannot be placed: the bundle of its rank 1 asks for CPU 1 on one node")
    assert reason.endswith("a offers CPU 1")


def test_a_resource_that_no_node_has_is_named() -> None:
    reason = refusal(replace(SPEC, gpus_per_rank=1), SPEC.names, [Node("a", {"CPU": 64})])
    assert reason is not None
    assert "rank 0 asks for CPU 1, GPU 1" in reason
    assert "a offers CPU 64, GPU 0" in reason


def test_strict_pack_keeps_a_replica_on_one_node_and_pack_does_not() -> None:
    nodes = [Node("a", {"CPU": 1}), Node("b", {"CPU": 3})]
    assert refusal(SPEC, SPEC.names, nodes) is not None
    assert refusal(replace(SPEC, strategy="PACK"), SPEC.names, nodes) is None


def test_no_node_at_all() -> None:
    assert "there is no node" in (refusal(SPEC, SPEC.names, []) or "")


@given(cores=st.lists(st.integers(0, 8), max_size=4), ranks=st.sampled_from([1, 2, 4]), replicas=st.integers(1, 4))
def test_strict_pack_is_refused_exactly_where_whole_gangs_do_not_fit(cores: list[int], ranks: int, replicas: int) -> None:
    spec = replace(SPEC, runner=RunnerSpec("checkpoint", Layout(ranks)), replicas=replicas, cpus_per_rank=0.1)
    nodes = [Node(str(index), {"CPU": count / 10}) for index, count in enumerate(cores)]
    assert (refusal(spec, spec.names, nodes) is None) == (sum(count // ranks for count in cores) >= replicas)


@pytest.mark.parametrize(
    ("cpus", "share", "threads"),
    [([2], 0.5, 1), ([8], 2, 2), ([3], 0.75, 1), ([8, 8], 4, 4), ([8, 4], 2, 2), ([8, 1], 2, 2), ([0, 6], 1.5, 1)],
)
def test_cpus_left_open_are_shared_evenly(cpus: list[float], share: float, threads: int) -> None:
    spec = divided(replace(SPEC, cpus_per_rank=0.0), [Node(str(index), {"CPU": count}) for index, count in enumerate(cpus)])
    assert (spec.cpus_per_rank, spec.runner.threads) == (share, threads)


def test_only_nodes_with_gpus_share_where_ranks_have_them() -> None:
    nodes = [Node("plain", {"CPU": 64}), Node("gpus", {"CPU": 8, "GPU": 4})]
    assert divided(replace(SPEC, cpus_per_rank=0.0, gpus_per_rank=1), nodes).cpus_per_rank == 2


def test_what_no_share_places_is_refused_by_name() -> None:
    nodes = [Node("a", {"CPU": 8, "GPU": 3})]
    spec = divided(replace(SPEC, cpus_per_rank=0.0, gpus_per_rank=1), nodes)
    assert "replica-1 cannot be placed: the bundle of its rank 1" in (refusal(spec, spec.names, nodes) or "")


@given(cpus=st.lists(st.integers(0, 8), min_size=1, max_size=4), ranks=st.sampled_from([1, 2, 4]), replicas=st.integers(1, 4))
def test_every_share_places_every_replica(cpus: list[int], ranks: int, replicas: int) -> None:
    spec = replace(SPEC, runner=RunnerSpec("checkpoint", Layout(ranks)), replicas=replicas, cpus_per_rank=0.0)
    nodes = [Node(str(index), {"CPU": count}) for index, count in enumerate(cpus)]
    assert (refusal(divided(spec, nodes), spec.names, nodes) is None) == any(cpus)


class Pending:
    """A placement group that Ray does not find room for."""

    def wait(self, timeout_s: float) -> bool:
        return False


async def test_what_finds_no_room_in_time_is_asked_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would take the room of the next epoch's, once there is some, for ever."""
    group, removed = Pending(), list[object]()
    monkeypatch.setattr(ray.util, "placement_group", lambda *_, **__: group)
    monkeypatch.setattr(ray.util, "remove_placement_group", removed.append)
    monkeypatch.setattr(placement, "_shortage", lambda *_: "a node is away")
    with pytest.raises(PlacementError, match="not placed within 60 s: a node is away"):
        await place(SPEC, "replica-0", "test/replica-0/epoch-1")
    assert removed == [group]
