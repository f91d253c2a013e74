"""How a rank's experts come into memory: packed as they are stored, dense as they are stored, or unpacked."""

import torch

from workers.kernels.experts import Dense, Experts, L, Packed
from workers.kernels.mxfp4 import BLOCK_BYTES, Unpacker
from workers.model.weights import Source


def load_experts(source: Source, name: str, *, unpack: bool) -> Experts[Packed] | Experts[Dense]:
    """One layer's experts; `name` ends in `.experts`. Packed if the checkpoint is, unless `unpack`."""
    if not source.weights.packed:
        return _experts(source, _dense(source, f"{name}.gate_up_proj"), _dense(source, f"{name}.down_proj"))
    gate_up, down = _packed(source, f"{name}.gate_up_proj"), _packed(source, f"{name}.down_proj")
    return _experts(source, unpacked(gate_up), unpacked(down)) if unpack else _experts(source, gate_up, down)


def _experts(source: Source, gate_up: L, down: L) -> Experts[L]:
    return Experts(source.shard.experts, source.shard.config.swiglu_limit, gate_up, down)


def _packed(source: Source, name: str) -> Packed:
    return Packed(source.load_stored(f"{name}_blocks"), source.load_stored(f"{name}_scales"), source.load_once(f"{name}_bias"))


def _dense(source: Source, name: str) -> Dense:
    return Dense(source.load_stored(name), source.load_once(f"{name}_bias"))


def unpacked(packed: Packed) -> Dense:
    """The same layer in bfloat16, which holds every MXFP4 value: four times the memory."""
    experts, rows, groups = packed.scales.shape
    columns = groups * 2 * BLOCK_BYTES
    unpack = Unpacker(rows * columns, torch.bfloat16, packed.scales.device)
    weight = torch.empty(experts, rows, columns, dtype=torch.bfloat16, device=packed.scales.device)
    for index in range(experts):
        weight[index] = unpack(packed.blocks[index], packed.scales[index])
    return Dense(weight.transpose(1, 2), packed.bias)
