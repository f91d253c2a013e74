"""From each rank's logits to the step's tokens: what the ranks exchange, and what the leader makes of it.

Every row: each rank's largest logit and its id. Rows that ask for log probabilities: also its log-sum-exp and its best ids.
Rows with a temperature: all their logits.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from workers.engine.plan import Int, Plan, Sampled
from workers.model.layout import share
from workers.runner.collective import Collective
from workers.runner.sampling import Ids, Settings, draw, top

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]


class Sampler:
    def __init__(self, vocab_size: int, collective: Collective) -> None:
        self.collective = collective
        self.shares = [share(vocab_size, collective.ranks, rank) for rank in range(collective.ranks)]

    def __call__(self, logits: Tensor, plan: Plan) -> Sampled | None:
        """logits [N, rank's vocabulary] float32; the tokens on the leader, None elsewhere."""
        drawn = np.flatnonzero(plan.temperatures > 0)
        rows = self._gather_rows(logits, drawn) if len(drawn) else None
        parts = self.collective.gather(self._summary(logits, plan))
        if parts is None:
            return None
        summaries = torch.stack(parts, 1).cpu().numpy()  # [N, ranks, 3 + 2 * alternatives]
        full = dict(zip(drawn.tolist(), zip(*rows, strict=True), strict=True)) if rows else {}
        return _collect([_sample(plan, n, summary, full.get(n)) for n, summary in enumerate(summaries)])

    def _gather_rows(self, logits: Tensor, drawn: Ids) -> list[Floats] | None:
        """On the leader each rank's logits [M, its vocabulary] of the rows `drawn`, copied no more often than they must be.

        Shares differ by at most one column; all are sent as wide as the first.
        """
        if len(drawn) < len(logits):
            logits = logits[torch.from_numpy(drawn).to(logits.device)]
        if padding := len(self.shares[0]) - logits.shape[1]:
            logits = F.pad(logits, (0, padding))
        parts = self.collective.gather(logits)
        if parts is None:
            return None
        return [part.cpu().numpy()[:, : len(share)] for part, share in zip(parts, self.shares, strict=True)]

    def _summary(self, logits: Tensor, plan: Plan) -> Tensor:
        """[N, 3 + 2 * A] float64: largest logit, its id, log-sum-exp, A best logits, their ids; A is what any row asks for."""
        first = self.shares[self.collective.rank].start
        most = max(0, int(plan.logprobs.max(initial=0)))
        summary = torch.zeros(len(logits), 3 + 2 * most, dtype=torch.float64)
        largest = logits.max(-1)  # of equal ones the first
        summary[:, 0], summary[:, 1] = largest.values, largest.indices + first
        for n in np.flatnonzero(plan.logprobs >= 0):
            summary[n, 2] = torch.logsumexp(logits[n], -1)
            summary[n, 3 : 3 + most] = -torch.inf
            row = logits[n].cpu().numpy()
            best = top(row, min(most, len(row)))
            summary[n, 3 : 3 + len(best)] = torch.from_numpy(row[best].astype(np.float64))
            summary[n, 3 + most : 3 + most + len(best)] = torch.from_numpy(best + first)
        return summary.to(logits.device)


Row = tuple[int, float, Int, Floats]  # token, its log probability, alternatives, theirs
NO_TOKEN: Row = (-1, 0.0, np.zeros(0, np.int32), np.zeros(0, np.float32))


def _sample(plan: Plan, n: int, summary: Wide, logits: Sequence[Floats] | None) -> Row:
    """Row n, from every rank's summary [ranks, 3 + 2 * A] and, where it is drawn, every rank's logits."""
    most = (summary.shape[1] - 3) // 2
    if not np.isfinite(summary[:, 0].max()):
        return NO_TOKEN
    if logits is None:
        winner = int(summary[:, 0].argmax())  # of equal ones the lowest rank, so the lowest id
        token, logit = int(summary[winner, 1]), float(summary[winner, 0])
    else:
        row = np.concatenate(logits)
        token = draw(row, _settings(plan, n))
        logit = float(row[token])
    if plan.logprobs[n] < 0:
        return token, 0.0, np.zeros(0, np.int32), np.zeros(0, np.float32)
    total = float(np.logaddexp.reduce(summary[:, 2]))
    values, ids = summary[:, 3 : 3 + most].flatten(), summary[:, 3 + most :].flatten()
    best = np.argsort(-values, kind="stable")[: plan.logprobs[n]]
    return token, logit - total, ids[best].astype(np.int32), (values[best] - total).astype(np.float32)


def _settings(plan: Plan, n: int) -> Settings:
    return Settings(
        float(plan.temperatures[n]),
        float(plan.top_ps[n]),
        int(plan.top_ks[n]),
        int(plan.seeds[n]),
        int(plan.output_positions[n]),
    )


def _collect(rows: list[Row]) -> Sampled:
    tokens, logprobs, ids, alternatives = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Sampled(np.array(tokens, np.int32), np.array(logprobs, np.float32), list(ids), list(alternatives))
