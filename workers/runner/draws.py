"""One rank's part in drawing tokens: the sums that say which rank's share a token falls into, and the candidates it sends.

A row without top-k, top-p and min-p has no candidates: the running sums of the ranks, one after another, are those of the whole
vocabulary, so the rank in whose part the row's uniform falls has the token. Of other rows each rank sends what may be kept:
what is below its bound is certainly not among the k largest, or not in the nucleus, or too unlikely.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.engine.plan import Plan
from workers.runner.logits import Logits
from workers.runner.ragged import Ids
from workers.runner.sampling import Wide

SLACK = 0.99  # of the mass that the nucleus leaves, for rounding


class Draws:
    """The rows of one step that are drawn, over one rank's share."""

    def __init__(self, logits: Logits, plan: Plan, vocab_size: int) -> None:
        self.logits = logits
        self.plan = plan
        self.vocab_size = vocab_size
        drawn = _drawn(plan)
        self.limited = drawn & (plan.top_ks > 0) & (plan.top_ks < vocab_size)  # by top-k
        self.nucleus = drawn & (plan.top_ps < 1)  # top-p
        filtered = self.limited | self.nucleus | drawn & (plan.min_ps > 0)
        self.plain, self.filtered = np.flatnonzero(drawn & ~filtered), np.flatnonzero(filtered)
        self.weighed = np.flatnonzero(drawn & ~filtered | self.nucleus & ~self.limited)  # whose sum of weights is needed
        self.sums = self._sums()
        self.candidates = self._candidates()

    @staticmethod
    def any(plan: Plan) -> bool:
        """Whether a row is drawn at all."""
        return bool(_drawn(plan).any())

    def totals(self) -> Tensor:
        """[N] float64: the sums of the weights of weighed rows, relative to their anchors; else 0."""
        totals = torch.zeros(len(self.plan.rows), dtype=torch.float64, device=self.sums.device)
        totals[self.weighed] = self.sums[:, -1]
        return totals

    def counts(self) -> Tensor:
        """[N] how many candidates there are of each row."""
        rows, _, _ = self.candidates
        return torch.bincount(rows, minlength=len(self.plan.rows))

    def entries(self, rows: Ids, targets: Wide) -> tuple[Ids, Tensor, Tensor]:
        """Rows, ids and values: the ids of plain `rows` at which their running sums exceed `targets`, then all candidates."""
        others, ids, values = self.candidates
        if len(rows):
            found = self._reach(rows, targets)
            ids, values = torch.cat([found, ids]), torch.cat([self.logits.values[rows, found], values])
        return np.concatenate([rows, others.cpu().numpy()]), ids, values

    def _reach(self, rows: Ids, targets: Wide) -> Tensor:
        sums = self.sums[np.searchsorted(self.weighed, rows)]
        return self.logits.reach(self._move(rows), self._move(self.plan.temperatures[rows]), sums, self._move(targets))

    def _sums(self) -> Tensor:
        if not len(self.weighed):
            return self._move(np.zeros((0, 1)))
        return self.logits.sums(self._move(self.weighed), self._move(self.plan.temperatures[self.weighed]))

    def _candidates(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, ids and values, ordered by row and id."""
        rows = self._move(self.filtered)
        if not len(rows):
            return rows, rows, self._move(np.zeros(0, np.float32))
        which, ids, values = self.logits.at_least(rows, self._bounds(rows))
        return rows[which], ids, values

    def _bounds(self, rows: Tensor) -> Tensor:
        """A value for each filtered row below which nothing is kept, nor needed for what is."""
        plan, nucleus, limited = self.plan, self.nucleus[self.filtered], self.limited[self.filtered]
        left = np.where(nucleus & ~limited, SLACK * (1 - plan.top_ps[self.filtered].astype(np.float64)) / self.vocab_size, 0)
        unlikely = np.where(nucleus & limited, 0, plan.min_ps[self.filtered])  # top-p is a part of all that top-k leaves
        least = torch.maximum(self._move(left) * self.totals()[rows], self._move(unlikely))
        bounds = self.logits.anchors[rows] + self._move(plan.temperatures[self.filtered]).double() * least.log()
        bounds = (bounds - 1e-6 * bounds.abs()).float()
        if limited.any():
            counts = self._move(plan.top_ks[self.filtered][limited].astype(np.int64))
            bounds[limited] = torch.maximum(bounds[limited], self.logits.bounds(rows[limited], counts))
        return bounds

    def _move(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self.logits.values.device)


def _drawn(plan: Plan) -> NDArray[np.bool_]:
    return (plan.targets < 0) & (plan.temperatures > 0)
