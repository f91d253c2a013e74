"""A runner whose weights say nothing: each token is drawn evenly from those that are allowed."""

import numpy as np
from numpy.typing import NDArray

from tests.fakes.runner import digest
from workers.engine.grammar import Below, Mask
from workers.engine.plan import Plan, Sampled

NO_IDS, NO_LOGPROBS = np.zeros(0, np.int32), np.zeros(0, np.float32)


class UniformRunner:
    """The token depends on the mask and on hash(seed, position) alone, as it would for a model without preferences."""

    def __init__(self, vocab_size: int, free: Below | None = None) -> None:
        """`free`: what rows without a grammar are allowed, all where it is not given."""
        self._vocab_size = vocab_size
        self._free = free or Below(vocab_size - 1, vocab_size - 1)

    def execute(self, plan: Plan) -> Sampled:
        rows = len(plan.rows)
        tokens = [self._draw(plan, row) for row in range(rows)]
        return Sampled(np.array(tokens, np.int32), np.zeros(rows, np.float32), [NO_IDS] * rows, [NO_LOGPROBS] * rows)

    def close(self) -> None:
        """Has nothing to give back."""

    def _draw(self, plan: Plan, row: int) -> int:
        word = digest([int(plan.output_positions[row])], int(plan.seeds[row]))
        allowed = plan.allowed(row, self._vocab_size)
        return draw(self._free if allowed is None else allowed, word)


def draw(allowed: Mask | Below, word: int) -> int:
    """The allowed id that the 64-bit number picks; -2 where none is."""
    if isinstance(allowed, Below):
        number = word % (allowed.first + 1)
        return number if number < allowed.first else allowed.end
    mask = allowed
    ends = np.cumsum(np.bitwise_count(mask), dtype=np.int64)
    if not ends[-1]:
        return -2
    number = word % int(ends[-1])
    place = int(np.searchsorted(ends, number, side="right"))
    before = int(ends[place - 1]) if place else 0
    return 32 * place + int(_bits(mask[place])[number - before])


def _bits(word: np.uint32) -> NDArray[np.int64]:
    return np.flatnonzero(word >> np.arange(32, dtype=np.uint32) & np.uint32(1))
