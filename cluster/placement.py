"""Where ranks go: placement groups, refused beforehand where they cannot be placed, waited for within bounds."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray._private.state import available_resources_per_node  # public interfaces tell this only with Ray's dashboard

from cluster.spec import HeadSpec
from ossia.common.errors import UserError

EPSILON = 1e-4  # Ray counts resources in ten-thousandths
RULES = {"STRICT_PACK": "on one node with the replica's other ranks", "PACK": "on any node"}


class PlacementError(Exception):
    """Ray did not set the bundles aside in time."""


@dataclass(frozen=True)
class Node:
    name: str
    offers: Mapping[str, float]  # resource to amount


def preflight(spec: HeadSpec) -> HeadSpec:
    """`spec` with the CPUs of a rank. Raises UserError where the live nodes, were they empty, could not hold all replicas."""
    nodes = [Node(node["NodeManagerAddress"], node["Resources"]) for node in ray.nodes() if node["Alive"]]
    spec = divided(spec, nodes)
    reason = refusal(spec, spec.names, nodes)
    if reason:
        raise UserError(f"{reason}; lower --replicas or --ranks, or add nodes")
    return spec


def divided(spec: HeadSpec, nodes: Sequence[Node]) -> HeadSpec:
    """`spec`; where it leaves the CPUs of a rank open, with the largest even share that lets `nodes` hold every replica."""
    if spec.cpus_per_rank:
        return spec
    whole = {node.offers.get("CPU", 0.0) for node in nodes}
    shares = sorted({cpus / (spec.runner.layout.ranks * count) for cpus in whole for count in range(1, spec.replicas + 1)})
    for share in reversed(shares):
        divided = replace(spec, cpus_per_rank=math.floor(share * 10_000) / 10_000)  # what Ray tells apart
        if divided.cpus_per_rank and not refusal(divided, spec.names, nodes):
            return replace(divided, runner=replace(spec.runner, threads=max(1, int(share))))
    return replace(spec, cpus_per_rank=1.0)  # refused for what they lack otherwise


async def place(spec: HeadSpec, replica: str, name: str) -> Any:
    """A detached placement group called `name`, ready, of a bundle per rank. Raises PlacementError after the spec's timeout."""
    bundles = [spec.bundle] * spec.runner.layout.ranks
    group = await asyncio.to_thread(ray.util.placement_group, bundles, strategy=spec.strategy, name=name, lifetime="detached")
    if not await asyncio.to_thread(group.wait, spec.placement_timeout_s):
        reason = await asyncio.to_thread(_shortage, spec, replica)
        await asyncio.to_thread(ray.util.remove_placement_group, group)  # or it takes the room that the next try waits for
        raise PlacementError(f"not placed within {spec.placement_timeout_s:g} s: {reason}")
    return group


def refusal(spec: HeadSpec, replicas: Sequence[str], nodes: Sequence[Node]) -> str | None:
    """Why `nodes` cannot hold `replicas` together, naming the first bundle without a place; None where they can."""
    free = [dict(node.offers) for node in nodes]
    for replica in replicas:
        rank = _take(spec, free)
        if rank is not None:
            offers = "; ".join(f"{node.name} offers {_amounts(spec, left)}" for node, left in zip(nodes, free, strict=True))
            rule, ask = RULES[spec.strategy], _amounts(spec, spec.bundle)
            offers = offers or "there is no node"
            return f"{replica} cannot be placed: the bundle of its rank {rank} asks for {ask} {rule}; {offers}"
    return None


def _take(spec: HeadSpec, free: list[dict[str, float]]) -> int | None:
    """Takes a replica's bundles out of `free`; returns the first rank that finds no place, having taken nothing."""
    ranks = spec.runner.layout.ranks
    room = [_room(spec, node) for node in free]
    if spec.strategy == "STRICT_PACK":
        room = [count if count >= ranks else 0 for count in room]
    if sum(room) < ranks:
        fitting = [_room(spec, node) for node in free]
        return max(fitting, default=0) if spec.strategy == "STRICT_PACK" else sum(fitting)
    left = ranks
    for node, count in zip(free, room, strict=True):
        taken = min(left, count)
        left -= taken
        for resource, amount in spec.bundle.items() if taken else ():
            node[resource] -= taken * amount
    return None


def _room(spec: HeadSpec, node: Mapping[str, float]) -> int:
    """How many bundles a node takes."""
    return min(int((node.get(resource, 0.0) + EPSILON) / amount) for resource, amount in spec.bundle.items())


def _amounts(spec: HeadSpec, amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{resource} {amounts.get(resource, 0.0):.4g}" for resource in spec.bundle)


def _shortage(spec: HeadSpec, replica: str) -> str:
    names = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    left: Mapping[str, Mapping[str, float]] = available_resources_per_node()
    nodes = [Node(names[node_id], offers) for node_id, offers in left.items() if node_id in names]
    return refusal(spec, [replica], nodes) or f"{replica} has room, but Ray did not answer"
