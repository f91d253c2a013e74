"""The simulated KV cache: in both groups a cell holds a token, and the sum of all there is up to it.

Cells are written and read through slots and block tables as keys and values are, so what a sequence goes on with depends on the
scheduler's having kept its cells. A sum takes in each token with its position, so it stands for the whole context: the next one
is computed from the cell before it, and a sequence is known by the sum of its last token.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.engine.plan import Int, Plan
from workers.splitmix import pair

UNSURE = 0  # a token

Sums = NDArray[np.uint64]


class Cells:
    """One group's."""

    def __init__(self, blocks: int, block_size: int) -> None:
        self.tokens: Int = np.zeros(blocks * block_size, np.int32)
        self.sums: Sums = np.zeros(blocks * block_size, np.uint64)

    def write(self, slots: Int, tokens: Int, sums: Sums) -> None:
        self.tokens[slots], self.sums[slots] = tokens, sums


class Cache:
    def __init__(self, full_blocks: int, sliding_blocks: int, block_size: int, window: int) -> None:
        self._full = Cells(full_blocks, block_size)
        self._sliding = Cells(sliding_blocks, block_size)
        self._block_size = block_size
        self._window = window

    def write(self, plan: Plan) -> Sums:
        """Writes the step's tokens; returns the sums [T] of the contexts that end with each of them."""
        starts, lengths = plan.query_starts[:-1], np.diff(plan.query_starts)
        first = plan.positions[starts]
        before = self._full.sums[self._full_slots(plan, np.arange(len(starts)), np.maximum(first - 1, 0))]
        running = np.cumsum(terms(plan.tokens, plan.positions), dtype=np.uint64)
        skipped = np.concatenate([np.zeros(1, np.uint64), running])[starts]
        sums: Sums = running + np.repeat(np.where(first > 0, before, np.uint64(0)) - skipped, lengths)
        self._full.write(plan.slots, plan.tokens, sums)
        self._sliding.write(plan.sliding_slots, plan.tokens, sums)
        return sums

    def keys(self, plan: Plan, sums: Sums, sequences: Int) -> Sums:
        """What the contexts of the plan's rows are known by: their sums, or where the two groups disagree something else."""
        oldest = np.maximum(plan.positions[plan.rows] - (self._window - 1), 0)
        full = self._full.sums[self._full_slots(plan, sequences, oldest)]
        sliding = self._sliding.sums[self._sliding_slots(plan, sequences, oldest)]
        keys: Sums = sums[plan.rows] + full - sliding
        return keys

    def context(self, plan: Plan, sequence: int, length: int) -> Int:
        """The first `length` tokens of a sequence, of its last window as both groups have them: if not alike, `UNSURE`."""
        numbers = np.full(length, sequence)
        positions = np.arange(length)
        tokens: Int = self._full.tokens[self._full_slots(plan, numbers, positions)]
        seen = positions[max(0, length - self._window) :]
        sliding = self._sliding.tokens[self._sliding_slots(plan, numbers[seen], seen)]
        tokens[seen] = np.where(tokens[seen] == sliding, sliding, UNSURE)
        return tokens

    def _full_slots(self, plan: Plan, sequences: Any, positions: Any) -> Any:
        numbers, offsets = np.divmod(positions, self._block_size)
        return plan.block_ids[plan.block_starts[sequences] + numbers].astype(np.int64) * self._block_size + offsets

    def _sliding_slots(self, plan: Plan, sequences: Any, positions: Any) -> Any:
        numbers, offsets = np.divmod(positions, self._block_size)
        numbers = numbers - plan.sliding_firsts[sequences]
        return plan.sliding_ids[plan.sliding_starts[sequences] + numbers].astype(np.int64) * self._block_size + offsets


def terms(tokens: Any, positions: Any) -> Sums:
    """What each token adds to the sum."""
    numbers: Sums = pair(np.asarray(tokens, np.int64).astype(np.uint64), np.asarray(positions, np.int64).astype(np.uint64))
    return numbers
