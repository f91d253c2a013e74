"""Rows times weights: what a linear layer computes with, plain, or in tiles so that no row's result depends on the others."""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 16  # rows
FEW = 12  # rows
TALL = 1 << 15  # outputs

Multiply = Callable[[Tensor, Tensor], Tensor]  # x [rows, in] and weight [in, out] of any strides, to [rows, out]


class LinearKernel(Protocol):
    def __call__(self, x: Tensor) -> Tensor:
        """x [rows, in] to [rows, out], both in the weight's dtype."""


class MakeLinear(Protocol):
    def __call__(self, weight: Tensor, bias: Tensor | None) -> LinearKernel:
        """Builds the kernel of one layer, weight [out, in] and bias [out]; it may keep them in another form."""


class TorchLinear:
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = weight
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        if len(x) >= FEW or len(self.weight) < TALL or self.bias is not None or x.dtype != torch.float32:
            return F.linear(x, self.weight, self.bias)
        # On a CPU, in float32, BLAS is up to four times as fast with a tall weight first, and with two columns as with one.
        wide = x.repeat(2, 1) if len(x) == 1 else x
        return torch.mm(self.weight, wide.t())[:, : len(x)].t().contiguous()


class TorchLinearTiles:
    """The same bits for a row in any batch. One row costs what `TILE` do, many rows about twice what one product would."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = weight
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return in_tiles(lambda tile: F.linear(tile, self.weight, self.bias), x)


def multiply_in_tiles(x: Tensor, weight: Tensor) -> Tensor:
    """A `Multiply` with the same bits for a row in any batch."""
    return in_tiles(lambda tile: tile @ weight, x)


def in_tiles(compute: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`compute` on x [rows, in] in tiles of `TILE` rows, the last one padded.

    A product of one shape treats all of its rows alike, whatever they hold; one of another shape may add in another order.
    """
    padded = F.pad(x, (0, 0, 0, -len(x) % TILE))
    return torch.cat([compute(tile) for tile in torch.split(padded, TILE)])[: len(x)]
