"""Samples as the arrays that a step computes with. No torch: batches are made in a process of their own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.sample import Sample

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Arrays:
    """Rows of tokens behind a prefix that they share, all as classes: an id's row, or the shared one."""

    tokens: Ints  # [prefix + rows * length]
    sources: Ints  # [targets] indices into tokens: behind which a target is predicted
    targets: Ints  # [targets]
    row: Ints  # [targets]: whose target it is
    kinds: tuple[str, ...]  # of each row
    prefix: int
    rows: int
    length: int


class Classes:
    """Classes of ids: the place in `ids` (ascending) of those that have a row of their own, len(ids) for all others."""

    def __init__(self, ids: Sequence[int], vocabulary: int) -> None:
        self.shared = len(ids)
        self.table = np.full(vocabulary, self.shared, np.int64)
        self.table[np.asarray(ids)] = np.arange(len(ids))

    def __call__(self, tokens: Sequence[int]) -> Ints:
        return self.table[np.asarray(tokens, np.int64)]


def pack(samples: Sequence[Sample], classes: Classes, dropped: float, rng: np.random.Generator) -> Arrays:
    """The samples as rows, filled up to the longest; behind the prefix a share `dropped` of unpredicted tokens has no row."""
    prefix = samples[0].prefix
    length = max(len(sample.tokens) for sample in samples) - prefix
    shown = np.zeros((len(samples), length), np.int64)
    sources, targets, rows = [], [], []
    for row, sample in enumerate(samples):
        assert sample.tokens[:prefix] == samples[0].tokens[:prefix] and not any(sample.predicted[: max(prefix, 1)])
        tokens, predicted = classes(sample.tokens), np.asarray(sample.predicted)
        (at,) = np.nonzero(predicted)
        before = at - 1
        sources.append(np.where(before < prefix, before, before + row * length))
        targets.append(tokens[at])
        rows.append(np.full(len(at), row))
        lost = (rng.random(len(tokens)) < dropped) & ~predicted
        shown[row, : len(tokens) - prefix] = np.where(lost, classes.shared, tokens)[prefix:]
    flat = np.concatenate([classes(samples[0].tokens[:prefix]), shown.reshape(-1)])
    kinds = tuple(sample.kind for sample in samples)
    places, wanted, row_of = (np.concatenate(each) for each in (sources, targets, rows))
    return Arrays(flat, places, wanted, row_of, kinds, prefix, len(samples), length)
