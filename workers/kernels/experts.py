"""Mixture of experts: the weights' forms in memory, and what a kernel does."""

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """A linear layer an expert, in MXFP4."""

    blocks: Tensor  # [experts, out, in / 32, 16] uint8
    scales: Tensor  # [experts, out, in / 32] uint8
    bias: Tensor | None  # [experts, out]


@dataclass(frozen=True)
class Dense:
    """A linear layer an expert, in bfloat16 or float32."""

    weight: Tensor  # [experts, in, out], any strides
    bias: Tensor | None  # [experts, out]


@dataclass(frozen=True)
class Laid:
    """A linear layer an expert, in bfloat16, in the form that oneDNN made for itself."""

    weights: tuple[Tensor, ...]  # one an expert, opaque
    bias: Tensor | None  # [experts, out]


L = TypeVar("L", Packed, Dense, Laid)


@dataclass(frozen=True)
class Experts(Generic[L]):
    """One layer's experts on one rank."""

    local: range  # which of the model's experts these are
    limit: float  # of the activation's clamp
    gate_up: L  # rows of gate and up interleaved
    down: L


class ExpertKernel(Protocol):
    def hold(self, experts: Experts[Any]) -> Experts[Any]:
        """The form in which this kernel takes a layer's weights, made once, at load; what is handed in is given up."""

    def __call__(self, x: Tensor, ids: Tensor, weights: Tensor, experts: Experts[Any]) -> Tensor:
        """For each row of x [tokens, hidden], the sum of its local experts' outputs; ids and weights are [tokens, k]."""


class MakeExperts(Protocol):
    def __call__(self, dtype: torch.dtype, device: torch.device) -> ExpertKernel:
        """Builds the kernel, which all layers share, with its scratch memory."""
