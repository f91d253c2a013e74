"""From each rank's logits to the step's tokens: what the ranks exchange, and what the leader makes of it.

First a summary of every row: each rank's largest logit and its id, or the logit of the row's target; where a token is drawn,
the sum of its weights and how many candidates it has; where log probabilities are asked for, its log-sum-exp and best ids.
Then, if tokens are drawn, the candidates themselves. Adjustments come before all that, made by each rank on its share; log
probabilities are those of the logits without them.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from workers.engine.plan import NOT_FINITE, NOTHING_ALLOWED, Int, Plan, Sampled
from workers.model.layout import share
from workers.runner.adjustments import adjust, adjusted
from workers.runner.collective import Collective
from workers.runner.draws import Draws
from workers.runner.logits import LOWEST, Logits
from workers.runner.logprobs import Original
from workers.runner.ragged import Ids, Ragged
from workers.runner.sampling import FEW, Settings, Wide, choose, uniforms

FIXED = 6  # columns of a summary, before the best logits and their ids
TOP, ID, ORIGINAL, TOTAL, CANDIDATES, LOG_SUM = range(FIXED)


class Sampler:
    def __init__(self, vocab_size: int, collective: Collective) -> None:
        self.vocab_size = vocab_size
        self.collective = collective
        self.share = share(vocab_size, collective.ranks, collective.rank)

    def __call__(self, values: Tensor, plan: Plan) -> Sampled | None:
        """values [N, rank's vocabulary] float32, which are overwritten; the tokens on the leader, None elsewhere."""
        changed = adjusted(plan)
        original = Original(values, plan.logprobs >= 0, changed)
        adjust(values, plan, self.vocab_size, self.share)
        logits = Logits(values)
        draws = Draws(logits, plan, self.vocab_size) if Draws.any(plan) else None
        summary = self._summary(logits, original, draws, plan)
        summaries = torch.stack(self.collective.exchange(summary)).cpu().numpy()  # [ranks, N, columns]
        tokens, chosen = _largest(summaries, changed)
        if draws is not None:
            self._draw(draws, original, summaries, tokens, chosen)
        return _sampled(plan, tokens, chosen, summaries) if self.collective.rank == 0 else None

    def _summary(self, logits: Logits, original: Original, draws: Draws | None, plan: Plan) -> Tensor:
        """[N, FIXED + 2 * A] float64, A being the most alternatives that any row asks for."""
        most, every = max(0, int(plan.logprobs.max())), np.arange(len(plan.rows))
        values, ids = _aimed(logits, plan, self.share)
        summary = torch.zeros(len(every), FIXED + 2 * most, dtype=torch.float64, device=values.device)
        summary[:, TOP], summary[:, ID] = values, ids + self.share.start
        summary[:, ORIGINAL] = original.of(every, ids, values)
        if draws is not None:
            summary[:, TOTAL], summary[:, CANDIDATES] = draws.totals(), draws.counts()
        rows, report = original.report(logits, most, self.share.start)
        summary[rows, LOG_SUM:] = report
        return summary

    def _draw(self, draws: Draws, original: Original, summaries: Wide, tokens: Ids, chosen: Wide) -> None:
        """Replaces, on the leader, the tokens [N] of drawn rows and their original logits [N] by what is drawn."""
        plan = draws.plan
        part = uniforms(plan.seeds, plan.output_positions)
        totals, owners, targets = _divide(summaries, plan, part)
        plain = draws.plain[tokens[draws.plain] >= 0]
        # Every rank names an id of every plain row and the leader picks: were the others to know whose turn it is, they would
        # have to agree on the last bit of a sum.
        counts = summaries[:, draws.filtered, CANDIDATES].astype(np.int64)
        rows, ids, values = draws.entries(plain, targets[self.collective.rank, plain])
        named = (ids + self.share.start).int()
        entries = torch.stack([named, values.view(torch.int32), original.of(rows, ids, values).view(torch.int32)])
        width = max(1, len(plain) + counts.sum(1).max())
        parts = self.collective.gather(F.pad(entries, (0, width - len(rows))) if width > len(rows) else entries)
        if parts is None:
            return
        messages = [part.cpu().numpy() for part in parts]
        won = np.stack([message[:, : len(plain)] for message in messages])[owners[plain], :, np.arange(len(plain))]
        tokens[plain], chosen[plain] = won[:, 0], won[:, 2].view(np.float32)
        (names, logits, before), found = _by_row([message[:, len(plain) :] for message in messages], counts)
        for group in found.groups(np.flatnonzero(tokens[draws.filtered] >= 0), FEW):
            places, inside = found.places(group)
            candidates, some = np.where(inside, logits.view(np.float32)[places], -np.inf), draws.filtered[group]
            drawn = choose(candidates, Settings.of(plan, some, self.vocab_size), part[some], totals[some])
            at = places[np.arange(len(group)), drawn]
            tokens[some], chosen[some] = names[at], before.view(np.float32)[at]


def _aimed(logits: Logits, plan: Plan, share: range) -> tuple[Tensor, Tensor]:
    """Of each row the largest value and its id, or the value and id of its target: -inf where that is another rank's."""
    values, ids = logits.best()
    rows = np.flatnonzero(plan.targets >= 0)
    if len(rows):
        targets = torch.from_numpy(plan.targets[rows].astype(np.int64)).to(ids.device) - share.start
        inside = targets.clamp(0, len(share) - 1)
        values[rows] = logits.values[rows, inside].where(targets == inside, -torch.inf)
        ids[rows] = inside
    return values, ids


def _largest(summaries: Wide, changed: NDArray[np.bool_]) -> tuple[Ids, Wide]:
    """The tokens [N] that have the largest logits, or what stands in their place, and their original logits [N]."""
    tops = summaries[:, :, TOP]
    winner, top = tops.argmax(0), tops.max(0)  # of equal ones the lowest rank, so the lowest id
    every = np.arange(len(winner))
    tokens = np.where(np.isfinite(top), summaries[winner, every, ID], NOT_FINITE).astype(np.int64)
    tokens[(top == -np.inf) & changed] = NOTHING_ALLOWED
    return tokens, summaries[winner, every, ORIGINAL]


def _divide(summaries: Wide, plan: Plan, part: Wide) -> tuple[Wide, Ids, Wide]:
    """Where the uniforms [N] fall, in distributions that lie in the ranks' shares one after another.

    Returns the sums of all weights [N], relative to the largest logit; the rank [N] in whose share it is; and what that rank's
    own running sum must exceed there, relative to its own largest logit [ranks, N].
    """
    anchors = np.maximum(summaries[:, :, TOP], LOWEST)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # rows that are not drawn, ranks whose turn it is not
        scales = np.exp((anchors - anchors.max(0)) / plan.temperatures.astype(np.float64))
        parts = summaries[:, :, TOTAL] * scales
        sums = parts.cumsum(0)
        owners = np.minimum(np.sum(sums <= part * sums[-1], 0), np.sum(sums < sums[-1], 0))  # as `reach` does
        return sums[-1], owners, (part * sums[-1] - (sums - parts)) / scales


def _by_row(messages: list[Int], counts: Ids) -> tuple[Int, Ragged]:
    """Ids, logits and original logits [3, entries] of each row's candidates in the order of ids, from the ranks' messages."""
    entries = np.concatenate([message[:, : column.sum()] for message, column in zip(messages, counts, strict=True)], 1)
    if len(messages) > 1:
        entries = entries[:, np.argsort(np.concatenate([np.repeat(np.arange(len(c)), c) for c in counts]), kind="stable")]
    return entries, Ragged(np.concatenate([[0], counts.sum(0).cumsum()]))


def _sampled(plan: Plan, tokens: Ids, chosen: Wide, summaries: Wide) -> Sampled:
    """`chosen` [N] are the original logits of the tokens."""
    logprobs = np.zeros(len(tokens), np.float32)
    ids, values = [np.zeros(0, np.int32)] * len(tokens), [np.zeros(0, np.float32)] * len(tokens)
    asked = np.flatnonzero(plan.logprobs >= 0)
    tokens[asked[~np.isfinite(summaries[:, asked, LOG_SUM]).all(0)]] = NOT_FINITE
    asked = asked[tokens[asked] >= 0]
    if len(asked):
        most, report = (summaries.shape[2] - FIXED) // 2, summaries[:, asked].swapaxes(0, 1)  # [M, ranks, columns]
        totals = np.logaddexp.reduce(report[:, :, LOG_SUM], 1)
        logprobs[asked] = chosen[asked] - totals
        logits, names = (part.reshape(len(asked), -1) for part in np.split(report[:, :, FIXED:], [most], 2))
        best = np.argsort(-logits, 1, kind="stable")[:, :most]
        logits, names = np.take_along_axis(logits, best, 1), np.take_along_axis(names, best, 1)
        counts = np.minimum(plan.logprobs[asked], np.sum(logits > -np.inf, 1))
        told = (logits - totals[:, None]).astype(np.float32)
        for row, count, name, value in zip(asked, counts, names, told, strict=True):
            ids[row], values[row] = name[:count].astype(np.int32), value[:count]
    return Sampled(tokens.astype(np.int32), logprobs, ids, values)
