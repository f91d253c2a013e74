"""Experts' weights rounded to MXFP4, and the rounded numbers as blocks and scales of the released layout.

OCP Microscaling Formats specification 1.0: 32 inputs of an output share a power of two. It is the least that leaves the
largest of them at most 6, E2M1's largest number; each is then rounded to the nearest, ties to the even one.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from training.model import Parameters
from workers.kernels.mxfp4 import BIAS, E2M1
from workers.model.layout import MX_BLOCK

LARGEST = 6.0
INPUTS = {"gate_up": -1, "down": -2}
"""The parameters that are experts' matrices, and the dimension of their inputs."""


def rounded(parameters: Mapping[str, Tensor]) -> Parameters:
    """The parameters with those of experts rounded; the others are the same tensors."""
    return {name: round_along(each, INPUTS[name]) if name in INPUTS else each for name, each in parameters.items()}


def round_along(weight: Tensor, inputs: int) -> Tensor:
    """Float32 numbers that MXFP4 holds, in blocks along the dimension `inputs`."""
    blocks = _blocks(weight.movedim(inputs, -1))
    scale = torch.exp2(exponents(blocks)).unsqueeze(-1)
    return (_nearest(blocks / scale) * scale).flatten(-2).movedim(-1, inputs)


def exponents(blocks: Tensor) -> Tensor:
    """Of the scales of blocks [..., 32], as floats; of a block of zeros, the least."""
    highest = blocks.abs().amax(-1)
    return torch.ceil(torch.log2(highest / LARGEST)).clamp(-BIAS, BIAS)


def _blocks(weight: Tensor) -> Tensor:
    """[..., in] as [..., in / 32, 32]."""
    return weight.reshape(*weight.shape[:-1], -1, MX_BLOCK)


def _nearest(x: Tensor) -> Tensor:
    """The nearest E2M1 number; a tie goes to the one with an even last bit."""
    magnitude = x.abs()
    step = torch.exp2(torch.floor(torch.log2(magnitude.clamp(min=1.0))) - 1)
    return torch.round(magnitude / step).mul_(step).clamp_(max=LARGEST).copysign_(x)


def packed(weight: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 blocks [..., out, in / 32, 16] and scales [..., out, in / 32] of weight [..., out, in], rounded as above."""
    groups = _blocks(weight)
    powers = exponents(groups)
    numbers = _nearest(groups / torch.exp2(powers).unsqueeze(-1))
    magnitudes = torch.tensor(E2M1[:8])
    codes = torch.searchsorted(magnitudes, numbers.abs().contiguous()) + 8 * torch.signbit(numbers)
    low, high = codes[..., ::2], codes[..., 1::2]
    return (low + 16 * high).to(torch.uint8), (powers + BIAS).to(torch.uint8)
