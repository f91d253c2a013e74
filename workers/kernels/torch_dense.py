"""Experts held as dense weights, in plain torch. Weights in another dtype than x are cast expert by expert on use."""

import torch
from torch import Tensor

from workers.kernels.experts import Dense
from workers.kernels.linear import Multiply, multiply_in_tiles
from workers.kernels.routing import ByExpert


class TorchDense(ByExpert):
    multiply: Multiply = staticmethod(torch.matmul)

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        """Needs no scratch memory."""

    def linear(self, x: Tensor, layer: Dense, index: int) -> Tensor:
        out = self.multiply(x, layer.weight[index].to(x.dtype))
        return out if layer.bias is None else out.add_(layer.bias[index])


class TorchDenseTiles(TorchDense):
    """The same bits for a token in any batch, at the cost of a whole tile for each expert that has one token."""

    multiply = staticmethod(multiply_in_tiles)
