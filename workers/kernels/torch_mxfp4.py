"""Experts held in MXFP4, in plain torch: each one that has tokens is unpacked on use, some rows at a time, and multiplied."""

import torch
from torch import Tensor

from workers.kernels.experts import Packed
from workers.kernels.linear import Multiply, multiply_in_tiles
from workers.kernels.mxfp4 import BLOCK_BYTES, Unpacker
from workers.kernels.routing import ByExpert

SCRATCH = 1 << 19  # values unpacked at a time: 2 MiB in float32, so that they are still in cache when they are multiplied


class TorchMxfp4(ByExpert):
    multiply: Multiply = staticmethod(torch.matmul)

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.unpack = Unpacker(SCRATCH, dtype, device)

    def linear(self, x: Tensor, layer: Packed, index: int) -> Tensor:
        blocks, scales = layer.blocks[index], layer.scales[index]
        rows, groups = scales.shape
        step = SCRATCH // (groups * 2 * BLOCK_BYTES)
        out = x.new_empty(len(x), rows)
        for start in range(0, rows, step):
            weight = self.unpack(blocks[start : start + step], scales[start : start + step])
            out[:, start : start + step] = self.multiply(x, weight.t())
        return out if layer.bias is None else out.add_(layer.bias[index])


class TorchMxfp4Tiles(TorchMxfp4):
    """The same bits for a token in any batch, at the cost of a whole tile for each expert that has one token."""

    multiply = staticmethod(multiply_in_tiles)
