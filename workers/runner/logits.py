"""A step's logits over one rank's share of the vocabulary, and what is found in them without sorting or copying them.

Ids are of the share: from 0. Each row's results depend on that row alone, to the bit.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 128  # ids
SCRATCH = 1 << 20  # bytes of weights, or of gathered blocks, at a time, so that they stay in a CPU's cache
LOWEST = torch.finfo(torch.float32).min


class Logits:
    """`values` [N, share] float32 and, by which the rest finds its way, the largest of each block of ids."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        whole, rest = divmod(values.shape[1], BLOCK)
        self.blocks = values[:, : whole * BLOCK].view(len(values), whole, BLOCK)
        self.rest = F.pad(values[:, whole * BLOCK :], (0, BLOCK - rest), value=-torch.inf) if rest else None
        self.peaks = _by_block(values, lambda block: block.amax(-1))
        self.anchors = self.peaks.amax(1).clamp_(min=LOWEST)  # what weights are relative to: -inf less -inf would be no number

    def best(self) -> tuple[Tensor, Tensor]:
        """The largest value of each row and its id, ties to the lowest: [N] each. NaN is larger than all."""
        every = torch.arange(len(self.values), device=self.values.device)
        block = self.peaks.argmax(1)  # of equal ones the first
        inside = self._inside(every, block).argmax(1)
        return self.peaks.amax(1), block * BLOCK + inside

    def sums(self, rows: Tensor, temperatures: Tensor) -> Tensor:
        """Running sums over the blocks of exp((value - anchor) / temperature): [M, blocks] float64, of rows [M]."""
        step = max(1, SCRATCH // (4 * self.values.shape[1]))
        parts = [
            _by_block(self._weigh(self.values[some], some, heat), lambda block: block.sum(-1))
            for some, heat in zip(torch.split(rows, step), torch.split(temperatures, step), strict=True)
        ]
        return torch.cat(parts).double().cumsum(1)

    def log_sum_exp(self, rows: Tensor) -> Tensor:
        """[M] float64, of rows [M]."""
        return self.anchors[rows] + self.sums(rows, torch.ones(len(rows), device=rows.device))[:, -1].log()

    def reach(self, rows: Tensor, temperatures: Tensor, sums: Tensor, targets: Tensor) -> Tensor:
        """The first ids [M] at which `sums` of these rows, were they over ids, exceed the targets [M] float64."""
        block = _reach(sums, targets)
        before = sums.gather(1, (block - 1).clamp(min=0)[:, None])[:, 0].where(block > 0, 0)
        weights = self._weigh(self._inside(rows, block), rows, temperatures)
        return block * BLOCK + _reach(weights.double().cumsum(1), targets - before)

    def at_least(self, rows: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All values of rows [M] at or above their thresholds [M], but for -inf.

        Returns, ordered by row and id: indices into `rows`, ids, values.
        """
        thresholds = thresholds.clamp(min=LOWEST)
        which, block = (self.peaks[rows] >= thresholds[:, None]).nonzero(as_tuple=True)
        step = SCRATCH // (4 * BLOCK)
        found = []
        for some, blocks in zip(torch.split(which, step), torch.split(block, step), strict=True):
            values = self._inside(rows[some], blocks)
            places = (values >= thresholds[some, None]).view(-1).nonzero()[:, 0]
            at = places // BLOCK
            ids = (blocks * BLOCK).index_select(0, at).add_(places % BLOCK)
            found.append((some.index_select(0, at), ids, values.view(-1).index_select(0, places)))
        return tuple(map(torch.cat, zip(*found, strict=True)))  # type: ignore[return-value]

    def bounds(self, rows: Tensor, counts: Tensor) -> Tensor:
        """Thresholds [M] which at least `counts` [M] values of a row reach, and seldom many more: that of so many blocks."""
        most = min(int(counts.max()), self.peaks.shape[1])
        best = self.peaks[rows].topk(most).values
        return best.gather(1, counts.clamp(max=most)[:, None] - 1)[:, 0].where(counts <= most, -torch.inf)

    def _weigh(self, values: Tensor, rows: Tensor, temperatures: Tensor) -> Tensor:
        """The weights [M, n] of values [M, n] of these rows, in their place."""
        return values.sub_(self.anchors[rows, None]).div_(temperatures[:, None]).exp_()

    def _inside(self, rows: Tensor, blocks: Tensor) -> Tensor:
        """The values [K, BLOCK] of one block in each of K rows; -inf beyond the last id."""
        if self.rest is None:
            return self.blocks[rows, blocks]
        found, whole = self.rest[rows], blocks < self.blocks.shape[1]
        found[whole] = self.blocks[rows[whole], blocks[whole]]
        return found


def _by_block(values: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """values [M, n] reduced over each block: [M, blocks], the last of which may be shorter."""
    whole, rest = divmod(values.shape[1], BLOCK)
    parts = reduce(values[:, : whole * BLOCK].view(len(values), whole, BLOCK))
    return torch.cat([parts, reduce(values[:, None, whole * BLOCK :])], 1) if rest else parts


def _reach(sums: Tensor, targets: Tensor) -> Tensor:
    """The first index [M] at which running sums [M, n] exceed the targets [M], at most the last that adds to them."""
    beyond = torch.searchsorted(sums, targets[:, None], right=True)
    return torch.minimum(beyond, torch.searchsorted(sums, sums[:, -1:].contiguous()))[:, 0]
