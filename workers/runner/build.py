"""From a spec to a runner: joins the ranks, loads this rank's slices, sizes the cache."""

from collections.abc import Callable

import torch
from torch._C._distributed_c10d import Store

from ossia.common.errors import UserError
from workers import rendezvous
from workers.checkpoint import open_checkpoint
from workers.kernels.table import ATTENTION, EXPERTS, LINEAR, choose
from workers.model.cache import Cache
from workers.model.layout import Shard, refusal
from workers.model.model import Model
from workers.model.weights import Source
from workers.runner.collective import Alone, Collective, Group, OrderedGroup
from workers.runner.device import placement
from workers.runner.runner import TorchRunner
from workers.runner.spec import RunnerSpec

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def build(spec: RunnerSpec, rank: int, store: Store | None, progress: Callable[[int], None] | None = None) -> TorchRunner:
    """Builds one rank's runner; every rank of the layout must call it with the same spec. One rank alone needs no `store`.

    `progress` is told the bytes read. Raises UserError where the checkpoint, the layout or the memory do not fit, and
    RuntimeError when another rank is lost or late.

    Computes on one thread until it returns: the first thread that computes on several makes OpenMP's pool of them, and where
    that is not the thread which runs the steps, a second pool makes both share the cores (three times slower, measured).
    """
    torch.set_num_threads(1)
    place, dtype = placement(), DTYPES[spec.dtype]
    weights = open_checkpoint(spec.checkpoint, progress)
    if reason := refusal(weights.config, spec.layout):
        raise UserError(f"{spec.checkpoint} on {spec.layout.ranks} ranks, experts {spec.layout.experts}: {reason}")
    shard = Shard(weights.config, spec.layout, rank)
    held = "packed" if weights.packed and not spec.unpack_experts else "dense"
    attention = choose(ATTENTION, place.device, dtype, "paged", deterministic=spec.deterministic)
    experts = choose(EXPERTS, place.device, dtype, held, deterministic=spec.deterministic)
    linear = choose(LINEAR, place.device, dtype, "dense", deterministic=spec.deterministic)
    full, sliding = spec.blocks(shard.config)
    collective = _join(spec, rank, store)
    kernel = attention.make(
        heads=len(shard.heads),
        kv_heads=len(shard.kv_heads),
        head_dim=shard.config.head_dim,
        block_size=spec.block_size,
        window=shard.config.window,
    )
    source = Source(weights, shard, dtype, place.device, linear.make)
    model = Model(source, kernel, experts.make(dtype, place.device), collective.reduce, unpack=spec.unpack_experts)
    if store is not None:
        rendezvous.meet(store, "loaded", rank, spec.layout.ranks)
    cache = Cache(shard, full, sliding, spec.block_size, dtype, place.device)
    kernels = {"attention": attention.name, "experts": experts.name, "linear": linear.name}
    torch.set_num_threads(spec.threads)
    return TorchRunner(shard.config, model, cache, collective, kernels, place.device)


def _join(spec: RunnerSpec, rank: int, store: Store | None) -> Collective:
    if spec.layout.ranks == 1:
        return Alone()
    assert store is not None, "several ranks meet through a store"
    kind = OrderedGroup if spec.deterministic else Group
    return kind(store, rank, spec.layout.ranks, placement(), spec.collective_timeout_s, spec.interface)
