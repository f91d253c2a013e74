"""A runner whose weights say nothing: each token is drawn evenly from those that its mask allows."""

import numpy as np
from numpy.typing import NDArray

from tests.fakes.runner import digest
from workers.engine.grammar import Mask
from workers.engine.plan import Plan, Sampled

NO_IDS, NO_LOGPROBS = np.zeros(0, np.int32), np.zeros(0, np.float32)


class UniformRunner:
    """The token depends on the mask and on hash(seed, position) alone, as it would for a model without preferences."""

    def __init__(self, vocab_size: int) -> None:
        self._words = -(-vocab_size // 32)

    def execute(self, plan: Plan) -> Sampled:
        masks = plan.masks.reshape(-1, self._words)
        seeds, positions = plan.seeds.tolist(), plan.output_positions.tolist()
        tokens = [
            draw(masks[mask], digest([position], seed))
            for mask, seed, position in zip(plan.mask_rows.tolist(), seeds, positions, strict=True)
        ]
        rows = len(tokens)
        return Sampled(np.array(tokens, np.int32), np.zeros(rows, np.float32), [NO_IDS] * rows, [NO_LOGPROBS] * rows)

    def close(self) -> None:
        """Has nothing to give back."""


def draw(mask: Mask, word: int) -> int:
    """The allowed id that the 64-bit number picks; -2 where none is."""
    ends = np.cumsum(np.bitwise_count(mask), dtype=np.int64)
    if not ends[-1]:
        return -2
    number = word % int(ends[-1])
    place = int(np.searchsorted(ends, number, side="right"))
    before = int(ends[place - 1]) if place else 0
    return 32 * place + int(_bits(mask[place])[number - before])


def _bits(word: np.uint32) -> NDArray[np.int64]:
    return np.flatnonzero(word >> np.arange(32, dtype=np.uint32) & np.uint32(1))
