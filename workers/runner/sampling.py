"""How a token is chosen among candidates: a pure function of their logits, the request's settings and hash(seed, position)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers import splitmix
from workers.engine.plan import Plan

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Ids = NDArray[np.int64]

FEW = 2048  # candidates that are sorted; more are narrowed down first
BINS = 1024


@dataclass(frozen=True)
class Settings:
    """How one token is drawn. Temperature is above 0: greedy rows are not drawn."""

    temperature: float
    top_k: int = 0  # 0 keeps all
    top_p: float = 1.0
    min_p: float = 0.0

    @classmethod
    def of(cls, plan: Plan, row: int, vocab_size: int) -> "Settings":
        """Those of a row; the top of all ids is all ids."""
        top_k = int(plan.top_ks[row])
        limit = top_k if top_k < vocab_size else 0
        return cls(float(plan.temperatures[row]), limit, float(plan.top_ps[row]), float(plan.min_ps[row]))


def uniforms(seeds: NDArray[np.uint64], positions: NDArray[np.integer]) -> Wide:
    """In [0, 1): the upper 53 bits of output number `position` of SplitMix64 started at `seed`."""
    upper: NDArray[np.uint64] = splitmix.pair(positions.astype(np.uint64), seeds) >> np.uint64(11)
    return upper.astype(np.float64) * 2.0**-53


def top(values: NDArray[np.floating], count: int) -> Ids:
    """The indices of the `count` (at least 1) largest values, the largest first, ties to the lowest index."""
    kept = np.flatnonzero(head(values, np.ones(len(values)), count))
    return kept[np.argsort(-values[kept], kind="stable")]


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


def choose(values: Floats, settings: Settings, uniform: float, total: float) -> int:
    """The index of the value that is drawn: temperature, top-k, top-p, min-p, then the inverse of the distribution.

    `values` are, in the order of ids, at least all that the settings keep. `total` is the sum of the weights of the whole
    vocabulary, relative to the largest value, which top-p is a part of where there is no top-k.
    """
    weights = np.exp((values.astype(np.float64) - values.max()) / settings.temperature)
    kept = np.ones(len(values), bool)
    if settings.top_k:
        kept = head(values, np.ones(len(values)), settings.top_k)
        total = float(weights[kept].sum())
    if settings.top_p < 1:
        kept[kept] = head(values[kept], weights[kept], settings.top_p * total)
    if settings.min_p:
        kept &= weights >= settings.min_p
    return int(np.flatnonzero(kept)[reach(np.cumsum(weights[kept]), uniform)])


def reach(sums: Wide, part: float) -> int:
    """The first index at which more than `part` of the last of these running sums is reached."""
    beyond = np.searchsorted(sums, part * sums[-1], side="right")
    # Where rounding carries it past the last weight that is not 0, that one is meant.
    return int(min(beyond, np.searchsorted(sums, sums[-1])))
