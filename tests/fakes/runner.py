"""A runner without a model: the next token is a pure function of the tokens that the plan makes visible."""

import zlib
from collections.abc import Sequence
from threading import Semaphore

import numpy as np

from workers.engine.plan import Plan, Sampled

VOCAB = 97
STOP = 3


def next_token(sequence: Sequence[int], seed: int = 0, output_position: int = 0, temperature: float = 0.0) -> int:
    """The token after `sequence`; randomness, where there is a temperature, is hash(seed, output_position) alone."""
    text = repr((list(sequence), (seed, output_position) if temperature else None))
    return zlib.crc32(text.encode()) % VOCAB


def generate(
    prompt: Sequence[int], count: int, seed: int = 0, temperature: float = 0.0, stops: Sequence[int] = (STOP,)
) -> list[int]:
    """What an undisturbed run yields: `count` tokens, fewer where one is a stop."""
    output: list[int] = []
    while len(output) < count and not (output and output[-1] in stops):
        output.append(next_token([*prompt, *output], seed, len(output), temperature))
    return output


class FakeRunner:
    """Keeps its own paged cache of (token, position), written through slots and read back through block tables.

    `plans` records every plan. With `gate`, each step that computes something takes one permit first.
    `fail_at` is the index of such a step that raises. Sequences with a token of `broken` have no finite logits.
    """

    broken: frozenset[int] = frozenset()

    def __init__(self, blocks: int, block_size: int, gate: Semaphore | None = None, fail_at: int | None = None) -> None:
        self.plans: list[Plan] = []
        self.closed = False
        self._block_size = block_size
        self._cache = np.full((blocks * block_size, 2), -1, np.int64)
        self._gate = gate
        self._fail_at = fail_at
        self._steps = 0

    def execute(self, plan: Plan) -> Sampled:
        plan = Plan.unpack(plan.pack())
        self.plans.append(plan)
        if len(plan.tokens):
            self._step()
        contexts = [self._context(plan, index) for index in range(len(plan.context_lengths))]
        tokens = [
            -1
            if self.broken.intersection(contexts[sequence])
            else next_token(contexts[sequence], int(seed), int(position), float(temperature))
            for sequence, seed, position, temperature in zip(
                plan.sampled, plan.seeds, plan.output_positions, plan.temperatures, strict=True
            )
        ]
        counts = np.maximum(plan.logprobs, 0)
        return Sampled(
            np.array(tokens, np.int32),
            np.array([-token / 8 for token in tokens], np.float32),
            [np.arange(count, dtype=np.int32) for count in counts],
            [-np.arange(count, dtype=np.float32) for count in counts],
        )

    def close(self) -> None:
        self.closed = True

    def _step(self) -> None:
        if self._gate is not None:
            self._gate.acquire()
        self._steps += 1
        if self._fail_at is not None and self._steps > self._fail_at:
            raise RuntimeError("a rank is lost")

    def _context(self, plan: Plan, index: int) -> list[int]:
        """Writes the sequence's new tokens, then reads all of its context back."""
        new = slice(plan.query_starts[index], plan.query_starts[index + 1])
        self._cache[plan.slots[new]] = np.stack([plan.tokens[new], plan.positions[new]], axis=1)
        table = plan.block_ids[plan.block_starts[index] : plan.block_starts[index + 1]]
        positions = np.arange(plan.context_lengths[index])
        cells = self._cache[table[positions // self._block_size] * self._block_size + positions % self._block_size]
        assert (cells[:, 1] == positions).all(), "a cell read holds another position: wrong slot, table or length"
        assert plan.positions[new][-1] == positions[-1], "the last new token is not the context's last"
        return [int(token) for token in cells[:, 0]]
