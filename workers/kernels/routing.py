"""What the expert kernels on torch share: tokens sorted by expert, one expert after another, the gated activation, the sum."""

from abc import ABC, abstractmethod
from functools import reduce
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from workers.kernels.experts import Experts

ALPHA = 1.702  # of the sigmoid in gpt-oss's SwiGLU


def swiglu(gate_up: Tensor, limit: float) -> Tensor:
    """[rows, 2 * intermediate], gate and up interleaved, which is overwritten, to [rows, intermediate] of the same dtype."""
    wide = gate_up.float()
    gate, up = wide[..., ::2].clamp_(max=limit), wide[..., 1::2].clamp_(-limit, limit)
    # Not torch.sigmoid, which on a CPU yields other bits at the end of a tensor than within.
    return up.add_(1).mul(gate).div_((gate * -ALPHA).exp_().add_(1)).to(gate_up.dtype)


class ByExpert(ABC):
    """An `ExpertKernel` but for how one expert's layer is multiplied.

    A token's experts are added in ascending order, in float32, so that the sum's bits do not depend on the other tokens.
    """

    def hold(self, experts: Experts[Any]) -> Experts[Any]:
        return experts

    def __call__(self, x: Tensor, ids: Tensor, weights: Tensor, experts: Experts[Any]) -> Tensor:
        ids, ascending = ids.sort(1)
        order = ids.flatten().argsort(stable=True)
        edges = torch.arange(experts.local.start, experts.local.stop + 1, device=x.device)
        bounds = torch.searchsorted(ids.flatten()[order], edges).tolist()
        order = order[bounds[0] : bounds[-1]]
        total = torch.zeros(ids.numel(), x.shape[1], dtype=torch.float32, device=x.device)
        if len(order):
            gate_up = self._each(x[order // ids.shape[1]], experts.gate_up, bounds)
            out = self._each(swiglu(gate_up, experts.limit), experts.down, bounds)
            total[order] = (out * weights.gather(1, ascending).flatten()[order, None]).float()
        return reduce(torch.add, total.view(*ids.shape, -1).unbind(1)).to(x.dtype)

    def _each(self, rows: Tensor, layer: Any, bounds: list[int]) -> Tensor:
        """Rows [n, in] times their experts' weights: those of the i-th expert end `bounds[i + 1] - bounds[0]` rows in."""
        ends = (end - bounds[0] for end in bounds)
        parts = [
            self.linear(rows[start:stop], layer, index) for index, (start, stop) in enumerate(pairwise(ends)) if start < stop
        ]
        return torch.cat(parts)

    @abstractmethod
    def linear(self, x: Tensor, layer: Any, index: int) -> Tensor:
        """x [rows, in] times the `index`-th expert's weights, and its bias: [rows, out] in memory of their own."""
