"""How tokens are chosen among candidates: a pure function of a row's logits, its settings and hash(seed, position)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers import splitmix
from workers.engine.plan import Plan
from workers.runner.ragged import Ids

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Bits = NDArray[np.bool_]

FEW = 2048  # candidates that are sorted; more are narrowed down first, one row after another
BINS = 1024


@dataclass(frozen=True)
class Settings:
    """How tokens are drawn, one a row: [R] each. Temperatures are above 0: greedy rows are not drawn."""

    temperatures: Wide
    top_ks: Ids  # 0 keeps all
    top_ps: Wide
    min_ps: Wide

    @classmethod
    def of(cls, plan: Plan, rows: Ids, vocab_size: int) -> "Settings":
        """Those of these rows; the top of all ids is all ids."""
        top_ks = plan.top_ks[rows].astype(np.int64)
        top_ks[top_ks >= vocab_size] = 0
        return cls(_wide(plan.temperatures[rows]), top_ks, _wide(plan.top_ps[rows]), _wide(plan.min_ps[rows]))


def uniforms(seeds: NDArray[np.uint64], positions: NDArray[np.integer]) -> Wide:
    """In [0, 1): the upper 53 bits of output number `position` of SplitMix64 started at `seed`."""
    upper: NDArray[np.uint64] = splitmix.pair(positions.astype(np.uint64), seeds) >> np.uint64(11)
    return upper.astype(np.float64) * 2.0**-53


def tops(values: NDArray[np.floating], count: int) -> Ids:
    """The indices [R, at most `count`] of each row's largest values [R, W], the largest first, ties to the lowest index."""
    if values.shape[1] > FEW:
        return np.stack([_top(row, count) for row in values])
    return np.argsort(-values, 1, kind="stable")[:, :count]


def _top(values: NDArray[np.floating], count: int) -> Ids:
    kept = np.flatnonzero(head(values, np.ones(len(values)), count))
    return kept[np.argsort(-values[kept], kind="stable")]


def heads(values: NDArray[np.floating], masses: Wide, among: Bits, targets: Wide) -> Bits:
    """`head` of each row of values [R, W] that are `among` [R, W] the candidates."""
    found = np.zeros_like(among)
    if values.shape[1] > FEW:
        for kept, inside, row, weights, target in zip(found, among, values, masses, targets.tolist(), strict=True):
            kept[inside] = head(row[inside], weights[inside], target)
        return found
    order = np.argsort(np.where(among, -values, np.inf), 1, kind="stable")
    reached = np.cumsum(np.take_along_axis(np.where(among, masses, 0), order, 1), 1)
    last = np.sum(reached < targets[:, None], 1, keepdims=True)
    np.put_along_axis(found, order, np.arange(values.shape[1]) <= last, 1)
    return found & among


def head(values: NDArray[np.floating], masses: Wide, target: float) -> NDArray[np.bool_]:
    """Which values [n] are the fewest largest ones whose masses sum up to `target`, ties to the lowest index; at least one.

    No more than `FEW` values are ever sorted: of more, bins between the smallest and the largest show where the last one is.
    """
    low, high = float(values.min()), float(values.max())
    if len(values) <= FEW or low == high:
        return _first(values, masses, target)
    bins = ((np.float64(high) - values) * (BINS / (high - low))).astype(np.int64)
    reached = np.cumsum(np.bincount(bins, masses, BINS + 1))
    last = min(int(np.searchsorted(reached, target)), int(bins.max()))
    kept, inside = bins < last, bins == last
    kept[inside] = head(values[inside], masses[inside], target - (reached[last - 1] if last else 0.0))
    return kept


def _first(values: NDArray[np.floating], masses: Wide, target: float) -> NDArray[np.bool_]:
    """`head` of values that are few or all equal."""
    order = np.argsort(-values, kind="stable") if len(values) <= FEW else np.arange(len(values))
    kept = np.zeros(len(values), bool)
    kept[order[: int(np.searchsorted(np.cumsum(masses[order]), target)) + 1]] = True
    return kept


def choose(values: Floats, settings: Settings, uniforms: Wide, totals: Wide) -> Ids:
    """The index [R] of each row's value that is drawn: temperature, top-k, top-p, min-p, then the inverse of the distribution.

    `values` [R, W] are, in the order of ids, at least all that the settings keep, then any number of -inf. `totals` [R] are
    the sums of the weights of the whole vocabulary, relative to the largest value: what top-p is a part of where there is no
    top-k.
    """
    weights = np.exp((values.astype(np.float64) - values.max(1, keepdims=True)) / settings.temperatures[:, None])
    kept, totals = values > -np.inf, totals.copy()
    some = np.flatnonzero(settings.top_ks)
    if len(some):
        kept[some] = heads(values[some], np.ones_like(weights[some]), kept[some], settings.top_ks[some].astype(np.float64))
        totals[some] = _sums(weights[some], kept[some])[:, -1]
    some = np.flatnonzero(settings.top_ps < 1)
    if len(some):
        kept[some] = heads(values[some], weights[some], kept[some], settings.top_ps[some] * totals[some])
    return reach(_sums(weights, kept & (weights >= settings.min_ps[:, None])), uniforms)


def _sums(weights: Wide, kept: Bits) -> Wide:
    """Running sums along each row, in which what lies behind a row's end changes no bit."""
    return np.cumsum(np.where(kept, weights, 0), 1)


def reach(sums: Wide, parts: Wide) -> Ids:
    """The first index of each row [R, W] at which more than its part of the last of these running sums is reached."""
    last = sums[:, -1:]
    beyond = np.sum(sums <= parts[:, None] * last, 1)
    # Where rounding carries it past the last weight that is not 0, that one is meant.
    found: Ids = np.minimum(beyond, np.sum(sums < last, 1))
    return found


def _wide(values: Floats) -> Wide:
    return values.astype(np.float64)
