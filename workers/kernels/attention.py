"""Attention over the paged cache: what a kernel does, and the block tables that it does it by."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from workers.engine.plan import Int, Plan
from workers.model.batch import Batch


@dataclass(frozen=True)
class Tables:
    """A group's block tables: sequence s has `ids[starts[s]:starts[s + 1]]`, the first of which is its block `firsts[s]`."""

    ids: Int
    starts: Int
    firsts: Int

    @classmethod
    def of(cls, plan: Plan, window: int | None) -> "Tables":
        """Those of the full group, or with a window those of the sliding one."""
        if window is None:
            return cls(plan.block_ids, plan.block_starts, np.zeros(len(plan.context_lengths), np.int32))
        return cls(plan.sliding_ids, plan.sliding_starts, plan.sliding_firsts)

    def blocks(self, sequence: int, first: int, stop: int) -> Int:
        """The ids of the sequence's blocks number `first` to `stop`, all of them in its table."""
        start = self.starts[sequence] - self.firsts[sequence]
        return self.ids[start + first : start + stop]


class AttentionStep(Protocol):
    """A kernel, prepared for one step."""

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, sinks: Tensor, window: int | None) -> Tensor:
        """Attends query [tokens, heads, head_dim] over one layer's cache [kv_heads, blocks, block_size, head_dim].

        Position p sees the positions up to p, with `window` only the last `window` of them, through the plan's tables of the
        full group or, with `window`, of the sliding group. Sinks [heads] are the logits of a column that takes part in the
        softmax and has no value. Values are finite wherever there are any, keys need not be, and where one is seen that is
        not, neither is the result. Returns [tokens, heads, head_dim].
        """


class AttentionKernel(Protocol):
    def prepare(self, batch: Batch) -> AttentionStep:
        """What all layers of one step share: the plan's block tables and bounds, in the form that the kernel takes."""


class MakeAttention(Protocol):
    def __call__(self, *, heads: int, kv_heads: int, head_dim: int, block_size: int, window: int) -> AttentionKernel:
        """Builds the kernel for one rank's heads."""
