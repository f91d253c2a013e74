"""Rows of different lengths, one after another in one array, seen as matrices of rows of about one length, filled up."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

SHORT = 64  # all rows up to this length are of one length


class Ragged:
    """Row r is what lies from `starts[r]` to `starts[r + 1]`."""

    def __init__(self, starts: Ids) -> None:
        self.starts = starts
        self.lengths: Ids = np.diff(starts)

    def groups(self, rows: Ids, most: int) -> Iterator[Ids]:
        """Rows that can share a matrix, less than twice as wide as each of them; those longer than `most` are alone."""
        lengths = self.lengths[rows]
        kinds = np.where(lengths > most, -1 - np.arange(len(rows)), np.frexp(np.maximum(lengths, SHORT) - 1)[1])
        for kind in np.unique(kinds):
            yield rows[kinds == kind]

    def places(self, rows: Ids) -> tuple[Ids, NDArray[np.bool_]]:
        """[M, W] where in the array each row's values are, and which are there: behind the end of a row, the place is 0."""
        at = np.arange(max(1, self.lengths[rows].max()))
        inside = at < self.lengths[rows, None]
        return np.where(inside, self.starts[rows, None] + at, 0), inside
