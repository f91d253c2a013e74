"""How a rank reads its slices of a checkpoint into the form that it computes with, without a second copy."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from workers.kernels.linear import MakeLinear, TorchLinear
from workers.model.config import ModelConfig
from workers.model.layout import Shard
from workers.model.slices import rank_slice

PIECE = 4096  # rows converted at a time


class Weights(Protocol):
    """A checkpoint, opened; `workers.checkpoint.open_checkpoint` returns one."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def packed(self) -> bool:
        """Whether the experts are stored as MXFP4 blocks and scales."""

    def read(self, name: str, *index: slice) -> Tensor:
        """One tensor, or the slice of its leading dimensions, in its stored dtype."""


@dataclass(frozen=True)
class Source:
    """Where a rank's layers get their weights, and what these become."""

    weights: Weights
    shard: Shard
    dtype: torch.dtype
    device: torch.device
    linear: MakeLinear = TorchLinear  # what linear layers outside the experts compute with

    def load(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """This rank's slice of a tensor, in `self.dtype` if no other is given."""
        found = self.load_once(name, dtype)
        assert found is not None, f"{name} is another rank's"
        return found

    def load_once(self, name: str, dtype: torch.dtype | None = None) -> Tensor | None:
        """The same, or None for a bias of a sum that another rank adds."""
        index = rank_slice(self.shard, name)
        if index is None:
            return None
        rows = (index or (slice(None),))[0]
        if rows.stop is None:
            return self.weights.read(name, *index).to(self.device, dtype or self.dtype)
        return self._convert(name, rows, index[1:], dtype or self.dtype)

    def load_stored(self, name: str) -> Tensor:
        """This rank's slice of a tensor in its stored dtype."""
        index = rank_slice(self.shard, name)
        assert index is not None, f"{name} is another rank's"
        return self.weights.read(name, *index).to(self.device)

    def _convert(self, name: str, rows: slice, rest: tuple[slice, ...], dtype: torch.dtype) -> Tensor:
        """Piece by piece: the embedding and the head are what a second copy would hurt."""
        pieces = range(rows.start, rows.stop, PIECE)
        first = self.weights.read(name, slice(rows.start, min(rows.start + PIECE, rows.stop)), *rest)
        whole = torch.empty(rows.stop - rows.start, *first.shape[1:], dtype=dtype, device=self.device)
        whole[: len(first)] = first
        for start in pieces[1:]:
            stop = min(start + PIECE, rows.stop)
            whole[start - rows.start : stop - rows.start] = self.weights.read(name, slice(start, stop), *rest)
        return whole
