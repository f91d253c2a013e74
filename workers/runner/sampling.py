"""How a token is drawn from one row of logits: a pure function of the row, the request's settings and hash(seed, position)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Ids = NDArray[np.int64]

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15
RUN = 512  # weights summed at a time
CANDIDATES = (256, 4096, 32768)  # how many of the most likely ids are sorted before a whole row is


@dataclass(frozen=True)
class Settings:
    """How one token is drawn. Temperature is above 0: greedy rows are not drawn."""

    temperature: float
    top_p: float
    top_k: int  # 0 keeps all
    seed: int
    position: int


def uniform(seed: int, position: int) -> float:
    """In [0, 1): the upper 53 bits of output number `position` of SplitMix64 (Steele, Lea, Flood, 2014) started at `seed`."""
    z = (seed + (position + 1) * GAMMA) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return ((z ^ (z >> 31)) >> 11) * 2.0**-53


def top(row: NDArray[np.floating], count: int) -> Ids:
    """The ids of the `count` largest values, the largest first, ties to the lowest id."""
    if count >= len(row):
        return np.argsort(-row, kind="stable")
    if not count:
        return np.zeros(0, np.int64)
    threshold = np.partition(row, len(row) - count)[len(row) - count]
    above = np.flatnonzero(row > threshold)
    level = np.flatnonzero(row == threshold)[: count - len(above)]
    return np.concatenate([above[np.argsort(-row[above], kind="stable")], level])


def draw(logits: Floats, settings: Settings) -> int:
    """One id: temperature, top-k, top-p over what that leaves, then the inverse of the distribution in the order of ids."""
    scaled = logits.astype(np.float64)
    scaled -= scaled.max()
    scaled /= settings.temperature
    kept = _kept(scaled, settings)
    weights = np.exp(scaled if kept is None else scaled[kept])
    index = _reach(weights, uniform(settings.seed, settings.position))
    return index if kept is None else int(kept[index])


def _reach(weights: Wide, part: float) -> int:
    """The first index up to which there is more than `part` of the weights' sum; sums runs first, for rows are long."""
    runs = np.cumsum(np.add.reduceat(weights, np.arange(0, len(weights), RUN)))
    target = part * runs[-1]
    run = int(np.searchsorted(runs, target, side="right"))
    before = runs[run - 1] if run else 0.0
    inside = weights[run * RUN : (run + 1) * RUN]
    index = run * RUN + int(np.searchsorted(np.cumsum(inside), target - before, side="right"))
    # Where rounding carries it past the last weight, or onto one that is 0, the last before it is meant.
    return index if index < len(weights) and weights[index] > 0 else int(np.flatnonzero(weights[:index])[-1])


def _kept(scaled: Wide, settings: Settings) -> Ids | None:
    """The ids that top-k and top-p leave, ascending; None for all."""
    if 0 < settings.top_k < len(scaled):
        ranked = top(scaled, settings.top_k)
        return np.sort(_nucleus(scaled, ranked, float(np.exp(scaled[ranked]).sum()), settings.top_p))
    if settings.top_p >= 1:
        return None
    total = float(np.exp(scaled).sum())
    for count in CANDIDATES:
        ranked = top(scaled, count)
        if np.exp(scaled[ranked]).sum() >= settings.top_p * total:
            return np.sort(_nucleus(scaled, ranked, total, settings.top_p))
    return np.sort(_nucleus(scaled, top(scaled, len(scaled)), total, settings.top_p))


def _nucleus(scaled: Wide, ranked: Ids, total: float, top_p: float) -> Ids:
    """The shortest head of `ranked` whose probability reaches `top_p`; at least one id."""
    reached = np.cumsum(np.exp(scaled[ranked]))
    return ranked[: int(np.searchsorted(reached, top_p * total, side="left")) + 1]
