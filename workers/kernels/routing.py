"""What the torch expert kernels share: tokens sorted by expert, and the gated activation."""

from collections.abc import Callable

import torch
from torch import Tensor

ALPHA = 1.702  # of the sigmoid in gpt-oss's SwiGLU


def swiglu(gate_up: Tensor, limit: float) -> Tensor:
    """[tokens, 2 * intermediate], gate and up interleaved, to [tokens, intermediate] of the same dtype."""
    gate = gate_up[..., ::2].clamp(max=limit).float()
    up = gate_up[..., 1::2].clamp(-limit, limit).float()
    # Not torch.sigmoid, which on a CPU yields other bits at the end of a tensor than within.
    return ((up + 1) * gate / (1 + torch.exp(gate * -ALPHA))).to(gate_up.dtype)


def route(x: Tensor, ids: Tensor, weights: Tensor, local: range, forward: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Sums, for each row of x [tokens, hidden], its experts' outputs by weight [tokens, k]; returns [tokens, hidden].

    `forward(i, rows)` computes the i-th expert of `local`; ids [tokens, k] outside `local` are other ranks'. Experts are added
    in ascending order, and a token comes once per expert, so the sum's order is fixed.
    """
    total = torch.zeros_like(x, dtype=torch.float32)
    flat = ids.flatten()
    order = torch.argsort(flat, stable=True)
    bounds = torch.searchsorted(flat[order], torch.arange(local.start, local.stop + 1, device=x.device)).tolist()
    for index, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False)):
        if start == stop:
            continue
        chosen = order[start:stop]
        tokens = chosen // ids.shape[1]
        out = forward(index, x[tokens]) * weights.flatten()[chosen, None]
        total.index_add_(0, tokens, out.float())
    return total.to(x.dtype)
