"""What one step computes: the arrays a runner needs, in a form that packs into one buffer for the other ranks. No torch."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workers.engine.grammar import Allowed, Below

Int = NDArray[np.int32]
Float = NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """One step over S sequences with T tokens in all; `Plan.idle()` (S = 0) is the beat that keeps ranks in touch.

    Token t of sequence s sits at `query_starts[s] <= t < query_starts[s + 1]`. Keys and values are in two groups of blocks, one
    for the layers that see all of the context and one for those with a sliding window. In the full group, sequence s has the
    blocks `block_ids[block_starts[s]:block_starts[s + 1]]`, the first of which holds positions 0 to block_size - 1; in the
    sliding group `sliding_ids[sliding_starts[s]:sliding_starts[s + 1]]`, the first of which is the sequence's number
    `sliding_firsts[s]`. This step writes token t's keys and values at `slots[t]` and `sliding_slots[t]`, slots being
    `block * block_size + offset`, then attends over the first `context_lengths[s]` positions, or as many as the window shows.

    N rows of logits are used: those of the tokens `rows`. Each is adjusted in this order: the repetition penalty on `seen_ids`,
    `bias_values` added at `bias_ids`, ids that the grammar forbids removed, by `below` or a mask; then temperature, top_k,
    top_p, min_p.
    """

    tokens: Int  # [T] input token ids
    positions: Int  # [T] positions in their sequences
    query_starts: Int  # [S + 1] offsets into the two above
    context_lengths: Int  # [S] tokens in the cache once this step has written its own
    slots: Int  # [T] where each token's keys and values go in the full group
    block_ids: Int  # block tables of the full group, one after another
    block_starts: Int  # [S + 1] offsets into block_ids
    sliding_slots: Int  # [T] the same three for the sliding group
    sliding_ids: Int
    sliding_starts: Int  # [S + 1]
    sliding_firsts: Int  # [S] the sequence's block number of the first in its sliding table
    rows: Int  # [N] the tokens, ascending indices into T, whose logits are used
    targets: Int  # [N] -1: draw a token; else a prompt's next token, whose log probability alone is asked for
    temperatures: Float  # [N] 0 is greedy
    top_ps: Float  # [N]
    top_ks: Int  # [N] 0 keeps all
    min_ps: Float  # [N] 0 keeps all
    seeds: NDArray[np.uint64]  # [N]
    output_positions: Int  # [N] index in the output of the token to sample: the position in hash(seed, position)
    logprobs: Int  # [N] alternatives to return, -1 for no log probabilities at all
    repetitions: Float  # [N] divides positive logits of the seen ids and multiplies negative ones; 1 changes nothing
    seen_ids: Int  # ids that the repetition penalty concerns, row after row
    seen_starts: Int  # [N + 1] offsets into seen_ids
    bias_ids: Int  # ids whose logits are changed, each at most once a row
    bias_values: Float  # added to them; -inf forbids
    bias_starts: Int  # [N + 1] offsets into the two above
    below: Int  # [N] ids from here on are forbidden, but for `ends`; -1: none are
    ends: Int  # [N] an id that may come all the same
    mask_rows: Int  # [N] the row of `masks` that applies, -1 for none
    masks: NDArray[np.uint32]  # [M * words] bit i % 32 of word i // 32 allows id i; words = ceil(vocabulary / 32)

    def filled(self) -> NDArray[np.uint32]:
        """The masks, for which it waits where they are computed while the step runs."""
        return self.masks

    def pack(self) -> NDArray[np.uint8]:
        """One buffer: a header of int32 lengths, then every array but the masks, in the order of the fields."""
        arrays = [getattr(self, name) for name in PACKED]
        header = np.array([len(array) for array in arrays], np.int32)
        return np.concatenate([np.ascontiguousarray(array).view(np.uint8) for array in (header, *arrays)])

    @classmethod
    def unpack(cls, buffer: NDArray[np.uint8]) -> "Plan":
        """The inverse of `pack`, without masks; trailing bytes are ignored."""
        offset = 4 * len(PACKED)
        lengths = buffer[:offset].view(np.int32)
        arrays = {}
        for name, length in zip(PACKED, lengths, strict=True):
            dtype = DTYPES.get(name, np.dtype(np.int32))
            size = int(length) * dtype.itemsize
            arrays[name] = buffer[offset : offset + size].copy().view(dtype)
            offset += size
        return cls(**arrays, masks=np.zeros(0, np.uint32))

    def allowed(self, row: int, vocab_size: int) -> Allowed:
        """The ids that the row's grammar leaves."""
        if self.below[row] >= 0:
            return Below(int(self.below[row]), int(self.ends[row]))
        number, words = int(self.mask_rows[row]), -(-vocab_size // 32)
        return self.filled()[number * words : (number + 1) * words] if number >= 0 else None

    @property
    def masked(self) -> int:
        """M, the different masks that its rows have."""
        return int(self.mask_rows.max(initial=-1)) + 1

    @classmethod
    def idle(cls) -> "Plan":
        """A step that computes nothing."""
        starts = {"query_starts", "block_starts", "sliding_starts", "seen_starts", "bias_starts"}
        return cls(*(np.zeros(int(f.name in starts), DTYPES.get(f.name, np.dtype(np.int32))) for f in fields(cls)))


PACKED = tuple(field.name for field in fields(Plan) if field.name != "masks")
DTYPES: dict[str, np.dtype[Any]] = {
    **dict.fromkeys(("temperatures", "top_ps", "min_ps", "repetitions", "bias_values"), np.dtype(np.float32)),
    "seeds": np.dtype(np.uint64),
    "masks": np.dtype(np.uint32),
}


@dataclass(frozen=True)
class Filling(Plan):
    """A plan whose masks are being computed: `wait` returns once they are."""

    wait: Callable[[], None]

    def filled(self) -> NDArray[np.uint32]:
        self.wait()
        return self.masks


NOT_FINITE, NOTHING_ALLOWED = -1, -2  # in place of a token


@dataclass(frozen=True)
class Sampled:
    """What a runner returns for a plan: one entry per entry of `plan.rows`."""

    tokens: Int  # [N] the target where there is one; NOT_FINITE or NOTHING_ALLOWED where there is none
    logprobs: Float  # [N] of `tokens`, natural log under the unadjusted logits; 0 where not asked for
    top_ids: list[Int]  # N arrays of as many alternatives as asked for, most likely first, ties to the lowest id
    top_logprobs: list[Float]  # same shapes


class Runner(Protocol):
    """Computes steps: the torch runner with its shards, or a cost model. Called from one thread."""

    def execute(self, plan: Plan) -> Sampled:
        """Runs one step on every rank and returns when its tokens are sampled. Raises when a rank is lost or late.

        Masks are asked for (`Plan.filled`, `Plan.allowed`) when they are needed, which is best done last.
        """

    def close(self) -> None:
        """Lets the other ranks go and frees the cache."""
