"""Attention over the paged cache: what a kernel does."""

from typing import Protocol

from torch import Tensor

from workers.model.batch import Batch


class AttentionStep(Protocol):
    """A kernel, prepared for one step."""

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, sinks: Tensor, window: int | None) -> Tensor:
        """Attends query [tokens, heads, head_dim] over one layer's cache [kv_heads, blocks, block_size, head_dim].

        Position p sees the positions up to p, with `window` only the last `window` of them; sinks [heads] are the logits of
        a column that takes part in the softmax and has no value. Returns [tokens, heads, head_dim].
        """


class AttentionKernel(Protocol):
    def prepare(self, batch: Batch) -> AttentionStep:
        """What all layers of one step share."""


class MakeAttention(Protocol):
    def __call__(self, *, heads: int, kv_heads: int, head_dim: int, block_size: int, window: int) -> AttentionKernel:
        """Builds the kernel for one rank's heads."""
