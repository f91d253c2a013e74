"""Paged attention with sinks in plain torch, the same bits for a query in any batch and whatever chunks its sequence came in.

Keys are cut into splits at fixed positions of the sequence, and a query adds up what it sees of them in ascending order. Every
product has one shape: `QUERIES` queries of a sequence, the last ones padding where there are fewer, by the keys of one split.
A split that a query sees nothing of adds exact zeros. Costs `QUERIES` times the products of a decode, and a gathering of the
context for every `QUERIES` tokens of a prefill.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.engine.plan import Plan
from workers.kernels.attention import Tables
from workers.kernels.torch_paged import TILE, gather, unseen
from workers.model.batch import Batch

QUERIES = 8
SPLIT = 128  # keys, or one block's if it has more
LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class Split:
    """One split of the keys of some P tiles of queries."""

    tiles: Tensor  # [P] which they are, each once
    blocks: Tensor  # [P, blocks of a split]
    hidden: Tensor  # [P, 1, QUERIES, keys] True where a query must not see a key


@dataclass(frozen=True)
class Tiles:
    """A step's queries in Q tiles, and the splits that they see, each tile's in ascending order."""

    rows: Tensor  # [Q, QUERIES] the tokens that ask; padding asks as the tile's last does
    splits: tuple[Split, ...]


class TorchSplits:
    def __init__(self, *, heads: int, kv_heads: int, head_dim: int, block_size: int, window: int) -> None:
        self.block_size = block_size
        self.blocks = max(1, SPLIT // block_size)  # of a split
        self.keys = self.blocks * block_size
        self.most = max(1, TILE // (max(heads * QUERIES, kv_heads * head_dim) * self.keys))  # tiles at a time
        self.window = window

    def prepare(self, batch: Batch) -> "TorchSplitsStep":
        device = batch.tokens.device
        return TorchSplitsStep(self._tiles(batch.plan, None, device), self._tiles(batch.plan, self.window, device), self.window)

    def _tiles(self, plan: Plan, window: int | None, device: torch.device) -> Tiles:
        spans = list(_spans(plan))
        rows = np.array([np.minimum(np.arange(start, start + QUERIES), stop - 1) for _, start, stop in spans])
        positions = plan.positions[rows]
        firsts = np.zeros(len(spans), np.int64) if window is None else np.maximum(positions[:, 0] - window + 1, 0) // self.keys
        counts = positions[:, -1] // self.keys + 1 - firsts
        tables, sequences = Tables.of(plan, window), np.array([sequence for sequence, _, _ in spans])

        def split(tiles: NDArray[np.int64], number: int) -> Split:
            at = firsts[tiles] + number
            blocks = np.array([self._blocks(plan, tables, *where) for where in zip(sequences[tiles], at, strict=True)])
            hidden = unseen(positions[tiles], at[:, None] * self.keys + np.arange(self.keys), window)
            return Split(*(torch.from_numpy(array).to(device) for array in (tiles, blocks, hidden[:, None])))

        def splits() -> Iterator[Split]:
            for number in range(counts.max()):
                tiles = np.flatnonzero(counts > number)
                for start in range(0, len(tiles), self.most):
                    yield split(tiles[start : start + self.most], number)

        return Tiles(torch.from_numpy(rows).to(device), tuple(splits()))

    def _blocks(self, plan: Plan, tables: Tables, sequence: int, split: int) -> list[int]:
        """The split's blocks; any block takes the place of those before the table and behind the context, which none sees."""
        start = split * self.blocks
        first = max(start, int(tables.firsts[sequence]))
        stop = min(start + self.blocks, -(-int(plan.context_lengths[sequence]) // self.block_size))
        found: list[int] = tables.blocks(sequence, first, stop).tolist()
        return [0] * (first - start) + found + [0] * (start + self.blocks - max(first, stop))


def _spans(plan: Plan) -> Iterator[tuple[int, int, int]]:
    """A sequence and its tokens `start` to `stop` in the plan, for each tile of queries."""
    for sequence, (begin, end) in enumerate(zip(plan.query_starts.tolist(), plan.query_starts[1:].tolist(), strict=False)):
        for start in range(begin, end, QUERIES):
            yield sequence, start, min(start + QUERIES, end)


@dataclass(frozen=True)
class TorchSplitsStep:
    full: Tiles
    sliding: Tiles
    window: int

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, sinks: Tensor, window: int | None) -> Tensor:
        assert window in (None, self.window), "prepared for another window"
        tiles = self.full if window is None else self.sliding
        kv_heads, (count, _), (_, heads, dim) = len(keys), tiles.rows.shape, query.shape
        grouped = query[tiles.rows].float().view(count, QUERIES, kv_heads, -1, dim).permute(2, 0, 3, 1, 4)
        folded = grouped.reshape(kv_heads, count, -1, dim)  # [kv_heads, tiles, group * QUERIES, d]
        sink = sinks.float().view(kv_heads, 1, -1, 1).expand(-1, count, -1, QUERIES).reshape(kv_heads, count, -1, 1)
        top, total, mixed = sink.clone(), torch.ones_like(sink), torch.zeros_like(folded)
        for split in tiles.splits:
            at = split.tiles
            highest, weight, value = _attend(
                folded[:, at], gather(keys, split.blocks), gather(values, split.blocks), split.hidden
            )
            higher = torch.maximum(top[:, at], highest)
            old, new = torch.exp(top[:, at] - higher), torch.exp(highest - higher)
            total[:, at] = total[:, at] * old + weight * new
            mixed[:, at] = mixed[:, at] * old + value * new
            top[:, at] = higher
        found = (mixed / total).view(kv_heads, count, -1, QUERIES, dim).permute(1, 3, 0, 2, 4)
        out = torch.empty_like(query)
        out[tiles.rows] = found.reshape(count, QUERIES, heads, dim).to(out.dtype)
        return out


def _attend(query: Tensor, keys: Tensor, values: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """query [kv_heads, P, group * QUERIES, d] over one split's keys and values [kv_heads, P, L, d].

    Returns the largest score, the sum of the weights relative to it, and the sum of the values by these weights.
    """
    kv_heads, tiles, rows, dim = query.shape
    scores = torch.matmul(query, keys.transpose(2, 3)).mul_(dim**-0.5)
    scores.view(kv_heads, tiles, -1, QUERIES, keys.shape[2]).masked_fill_(hidden, -torch.inf)
    highest = scores.amax(-1, keepdim=True).clamp_(min=LOWEST)  # where all is hidden, -inf less -inf would be no number
    weights = scores.sub_(highest).exp_()
    return highest, weights.sum(-1, keepdim=True), torch.matmul(weights, values)
