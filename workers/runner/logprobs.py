"""One rank's part in log probabilities: of rows that ask for them, the log-sum-exp and the best ids."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.runner.logits import Logits
from workers.runner.ragged import Ids, Ragged
from workers.runner.sampling import FEW, tops


class Original:
    """Logits as they were before adjustments: copies of the rows that are adjusted and ask for log probabilities, no others."""

    def __init__(self, values: Tensor, asked: NDArray[np.bool_], changed: NDArray[np.bool_]) -> None:
        """`values` before they are adjusted, and which rows ask for log probabilities and which are adjusted: [N] each."""
        self.kept, self.rest = np.flatnonzero(asked & changed), np.flatnonzero(asked & ~changed)
        self.logits = Logits(values[self.kept]) if len(self.kept) else None

    def of(self, rows: Ids, ids: Tensor, values: Tensor) -> Tensor:
        """The logits [M] of ids [M] in rows [M], whose adjusted ones are `values`: also the answer where none is asked for."""
        if self.logits is None:
            return values
        kept, found = np.flatnonzero(np.isin(rows, self.kept)), values.clone()
        found[kept] = self.logits.values[np.searchsorted(self.kept, rows[kept]), ids[kept]]
        return found

    def report(self, logits: Logits, most: int, first: int) -> tuple[Ids, Tensor]:
        """The rows [M] that ask, and [M, 1 + 2 * most] float64: log-sum-exp, the `most` largest logits, their ids.

        `logits` are the adjusted ones, whose ids start at `first`. Where there are fewer than `most` ids, the rest of the
        logits is -inf.
        """
        parts = [_report(logits, self.rest, most, first)]
        if self.logits is not None:
            parts.append(_report(self.logits, np.arange(len(self.kept)), most, first))
        return np.concatenate([self.rest, self.kept]), torch.cat(parts)


def _report(logits: Logits, rows: Ids, most: int, first: int) -> Tensor:
    report = np.full((len(rows), 1 + 2 * most), -np.inf)
    if len(rows):
        places = torch.from_numpy(rows).to(logits.values.device)
        report[:, 0] = logits.log_sum_exp(places).cpu().numpy()
    if len(rows) and most:
        bounds = logits.bounds(places, torch.full_like(places, most))
        which, ids, values = (found.cpu().numpy() for found in logits.at_least(places, bounds))
        found = Ragged(np.searchsorted(which, np.arange(len(rows) + 1)))
        for some in found.groups(np.flatnonzero(found.lengths), FEW):
            at, inside = found.places(some)
            candidates = np.where(inside, values[at], -np.inf)
            best = tops(candidates, most)
            width = 1 + np.arange(best.shape[1])
            report[some[:, None], width] = np.take_along_axis(candidates, best, 1)
            report[some[:, None], most + width] = ids[np.take_along_axis(at, best, 1)] + first
    return torch.from_numpy(report).to(logits.values.device)
