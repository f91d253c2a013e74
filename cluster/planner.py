"""Which layouts of a model fit into memory, and why the others do not. Counts bytes from configs and file headers: no torch."""

from dataclasses import dataclass, replace
from typing import get_args

from ossia.common.errors import UserError
from workers.checkpoint.names import Shape, is_dense_expert, is_packed, tensors
from workers.engine import capacity
from workers.model.config import ModelConfig
from workers.model.layout import RANKS, ExpertSplit, Layout, Shard, refusal
from workers.model.slices import elements, rank_slice
from workers.runner.spec import ITEM_BYTES, RunnerSpec

GIB = 1 << 30
PROCESS_BYTES = GIB // 2  # a rank beside its weights and cache: interpreter, torch, one step's activations
KV_SHARE = 0.5  # of what weights and processes leave free on a host, given to the cache by default
KV_CAP = GIB  # most that a rank's cache takes of a host by default, unless one sequence needs more
KV_GPU_SHARE = 0.9  # the same of a GPU, which nothing else uses


@dataclass(frozen=True)
class Device:
    """The memory that ranks are placed in: a GPU has one rank, a host without GPUs all its ranks of all replicas."""

    memory: int  # bytes free
    ranks: int | None = None  # of a host: how many share it; None: a GPU, for one rank alone

    @property
    def share(self) -> int:
        """Bytes for each rank."""
        return self.memory // (self.ranks or 1)

    def cache(self, free: int) -> int:
        """Bytes of cache that a rank takes by default where weights and process leave it `free` bytes."""
        return int(free * KV_GPU_SHARE) if self.ranks is None else min(KV_CAP, int(free * KV_SHARE))


@dataclass(frozen=True)
class Demand:
    """What is asked of a replica, whatever its layout."""

    dtype: str = "float32"
    max_context: int = 8192  # tokens
    kv_memory: int | None = None  # bytes of cache on a rank; None: chosen by the plan
    unpack_experts: bool = False


@dataclass(frozen=True)
class Plan:
    """A layout that fits. Bytes are those of one replica."""

    layout: Layout
    weights: tuple[int, ...]  # bytes by rank
    kv_memory: int  # bytes of cache on each rank
    kv_tokens: int  # that the cache holds in the full layers
    sliding_tokens: int  # the same in the sliding layers, which keep windows alone; 0 without such layers

    @property
    def cache(self) -> str:
        """What the replica's cache holds, for people."""
        return capacity.described(self.kv_tokens, self.sliding_tokens)


@dataclass(frozen=True)
class Refusal:
    """A layout that does not fit, and why."""

    layout: Layout
    reason: str


def plan(config: ModelConfig, packed: bool, layout: Layout, device: Device, demand: Demand) -> Plan:
    """Divides the memory of `device`. Raises UserError: what does not divide, or which rank lacks how many GiB."""
    if reason := refusal(config, layout):
        raise UserError(f"layout {name(layout)}: {reason}")
    if demand.max_context > config.max_position_embeddings:
        raise UserError(f"max context {demand.max_context}: the model has {config.max_position_embeddings} positions")
    weights = tuple(
        weight_bytes(Shard(config, layout, rank), packed, demand.dtype, demand.unpack_experts) for rank in range(layout.ranks)
    )
    runner = RunnerSpec("", layout, demand.dtype, max_context=demand.max_context)
    sequence = runner.least_memory(config)
    largest = max(weights)
    free = device.share - largest - PROCESS_BYTES
    kv_memory = demand.kv_memory if demand.kv_memory is not None else max(sequence, device.cache(free))
    if kv_memory < sequence:
        raise UserError(
            f"--kv-memory {gib(kv_memory)} cannot hold one request of --max-context {demand.max_context} tokens, "
            f"which takes {gib(sequence)} a rank: raise the one or lower the other"
        )
    if free < kv_memory:
        raise UserError(
            f"layout {name(layout)}: rank {weights.index(largest)} lacks {gib(kv_memory - free)}: it needs {gib(largest)} of "
            f"weights, {gib(kv_memory)} of cache and {gib(PROCESS_BYTES)} for its process, and {_holding(device)}; "
            f"use {_remedies(device, layout, demand)}"
        )
    full, sliding = replace(runner, kv_memory=kv_memory).blocks(config)
    slides = config.window > 1
    return Plan(layout, weights, kv_memory, full * runner.block_size, sliding * runner.block_size * slides)


def layouts(config: ModelConfig, packed: bool, memory: int, replicas: int | None, demand: Demand) -> list[Plan | Refusal]:
    """Every layout there is, planned or refused.

    `memory` is the bytes free on one device; `replicas` is their number where all ranks share it, None where each rank has
    a device of its own.
    """
    results: list[Plan | Refusal] = []
    for layout in (Layout(ranks, experts) for ranks in RANKS for experts in get_args(ExpertSplit)):
        if layout == Layout(1, "tp"):
            continue  # one rank splits nothing
        try:
            device = Device(memory, replicas and replicas * layout.ranks)
            results.append(plan(config, packed, layout, device, demand))
        except UserError as error:
            results.append(Refusal(layout, str(error)))
    return results


def weight_bytes(shard: Shard, packed: bool, dtype: str, unpack_experts: bool = False) -> int:
    """Bytes of one rank's weights in memory, exactly."""
    shapes = tensors(shard.config, packed)
    return sum(_bytes(shard, tensor, shape, ITEM_BYTES[dtype], unpack_experts) for tensor, shape in shapes.items())


def name(layout: Layout) -> str:
    """`2 x ep`: two ranks, experts whole."""
    return f"{layout.ranks} x {layout.experts}"


def gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"


def _bytes(shard: Shard, tensor: str, shape: Shape, item_bytes: int, unpack_experts: bool) -> int:
    count = elements(shape, rank_slice(shard, tensor))
    if is_packed(tensor):
        # Two values a byte become two bfloat16; unpacked weights have no scales.
        return count if not unpack_experts else 4 * count * tensor.endswith("_blocks")
    if is_dense_expert(tensor):
        return 2 * count  # dense experts stay in bfloat16
    return count * (4 if tensor.endswith(("norm.weight", "sinks")) else item_bytes)


def _holding(device: Device) -> str:
    if device.ranks is None:
        return f"{gib(device.share)} is free"
    return f"{gib(device.share)} is free for each of the {device.ranks} ranks on this host"


def _remedies(device: Device, layout: Layout, demand: Demand) -> str:
    remedies = {
        "more ranks": device.ranks is None,
        "fewer replicas": device.ranks is not None and device.ranks > layout.ranks,
        "--dtype bfloat16": demand.dtype != "bfloat16",
        "a lower --max-context": demand.kv_memory is None,
        "a lower --kv-memory": demand.kv_memory is not None,
    }
    return " or ".join(remedy for remedy, helps in remedies.items() if helps)
