"""Paged attention with sinks in plain torch: the oracle of the others, and what runs where no other fits.

Work is cut into tiles: `sequences x queries` that see `sequences x blocks` of the cache. All decodes of similar length make one
tile, a prefill is cut into tiles of its queries, so that neither scores nor gathered keys grow without bound.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.engine.plan import Plan
from workers.kernels.attention import Tables
from workers.model.batch import Batch

TILE = 1 << 24  # scores, or gathered key elements, in one tile


@dataclass(frozen=True)
class Tile:
    rows: Tensor  # [S, n] the tokens that ask
    blocks: Tensor  # [S, b] the blocks they see
    hidden: Tensor  # [S, 1, n, b * block_size] True where a query must not see a key


@dataclass(frozen=True)
class Span:
    """Queries `start` to `stop` (tokens of the plan) of one sequence, and the blocks of it that they see."""

    sequence: int
    start: int
    stop: int
    first_block: int
    blocks: int

    @property
    def shape(self) -> tuple[int, int]:
        """Spans of one shape share a tile: the queries, and the logarithm of the power of two that bounds the blocks."""
        return self.stop - self.start, self.blocks.bit_length()


class TorchPaged:
    def __init__(self, *, heads: int, kv_heads: int, head_dim: int, block_size: int, window: int) -> None:
        self.heads = heads  # scores of one query and one key
        self.width = kv_heads * head_dim  # elements of one gathered key
        self.block_size = block_size
        self.window = window

    def prepare(self, batch: Batch) -> "TorchPagedStep":
        device = batch.tokens.device
        return TorchPagedStep(
            tuple(self._tiles(batch.plan, None, device)), tuple(self._tiles(batch.plan, self.window, device)), self.window
        )

    def _tiles(self, plan: Plan, window: int | None, device: torch.device) -> Iterator[Tile]:
        spans = sorted(self._spans(plan, window), key=lambda span: span.shape)
        for _, group in groupby(spans, key=lambda span: span.shape):
            alike = list(group)
            queries, log_blocks = alike[0].shape
            most = max(1, TILE // (max(queries * self.heads, self.width) * self.block_size << log_blocks))
            for start in range(0, len(alike), most):
                yield self._tile(plan, alike[start : start + most], window, device)

    def _spans(self, plan: Plan, window: int | None) -> Iterator[Span]:
        """Cuts each sequence's queries so that one span's scores fit a tile."""
        for sequence, length in enumerate(plan.context_lengths.tolist()):
            begin, end = plan.query_starts[sequence : sequence + 2].tolist()
            most = window if window is not None else max(1, TILE // (self.heads * length))
            for start in range(begin, end, most):
                stop = min(start + most, end)
                first = 0 if window is None else max(0, int(plan.positions[start]) - window + 1) // self.block_size
                yield Span(sequence, start, stop, first, int(plan.positions[stop - 1]) // self.block_size + 1 - first)

    def _tile(self, plan: Plan, spans: list[Span], window: int | None, device: torch.device) -> Tile:
        rows = np.array([range(span.start, span.stop) for span in spans])
        blocks = np.zeros((len(spans), max(span.blocks for span in spans)), np.int64)
        tables = Tables.of(plan, window)
        for row, span in zip(blocks, spans, strict=True):
            row[: span.blocks] = tables.blocks(span.sequence, span.first_block, span.first_block + span.blocks)
        first_keys = np.array([span.first_block * self.block_size for span in spans])
        keys = first_keys[:, None] + np.arange(blocks.shape[1] * self.block_size)
        hidden = unseen(plan.positions[rows], keys, window)
        return Tile(*(torch.from_numpy(array).to(device) for array in (rows, blocks, hidden[:, None])))


def unseen(queries: NDArray[np.int32], keys: NDArray[np.int64], window: int | None) -> NDArray[np.bool_]:
    """[S, n, L]: the keys at positions [S, L] that queries at positions [S, n] must not see."""
    distance = queries[:, :, None] - keys[:, None, :]
    return distance < 0 if window is None else (distance < 0) | (distance >= window)


@dataclass(frozen=True)
class TorchPagedStep:
    full: tuple[Tile, ...]
    sliding: tuple[Tile, ...]
    window: int

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, sinks: Tensor, window: int | None) -> Tensor:
        assert window in (None, self.window), "prepared for another window"
        out = torch.empty_like(query)
        for tile in self.full if window is None else self.sliding:
            out[tile.rows] = _attend(
                query[tile.rows], gather(keys, tile.blocks), gather(values, tile.blocks), sinks, tile.hidden
            ).to(out.dtype)
        return out


def gather(cache: Tensor, blocks: Tensor) -> Tensor:
    """[kv_heads, S, keys, head_dim] in float32, of blocks [S, b]."""
    heads, _, _, dim = cache.shape
    return cache.index_select(1, blocks.flatten()).view(heads, len(blocks), -1, dim).float()


def _attend(query: Tensor, keys: Tensor, values: Tensor, sinks: Tensor, hidden: Tensor) -> Tensor:
    """query [S, n, heads, d] over keys and values [kv_heads, S, L, d] in float32; returns [S, n, heads, d]."""
    sequences, queries, heads, dim = query.shape
    kv_heads, _, length, _ = keys.shape
    grouped = query.float().view(sequences, queries, kv_heads, heads // kv_heads, dim).permute(2, 0, 3, 1, 4)
    folded = grouped.reshape(kv_heads, sequences, -1, dim)  # [kv_heads, S, group * n, d]
    scores = torch.matmul(folded, keys.transpose(2, 3)).mul_(dim**-0.5)
    scores = scores.view(kv_heads, sequences, -1, queries, length).masked_fill_(hidden, -torch.inf)
    sink = sinks.float().view(kv_heads, 1, -1, 1, 1)
    top = torch.maximum(scores.amax(-1, keepdim=True), sink)
    weights = scores.sub_(top).exp_()
    total = weights.sum(-1, keepdim=True) + torch.exp(sink - top)
    mixed = torch.matmul(weights.view(kv_heads, sequences, -1, length), values).view(*weights.shape[:-1], dim) / total
    return mixed.permute(1, 3, 0, 2, 4).reshape(sequences, queries, heads, dim)
