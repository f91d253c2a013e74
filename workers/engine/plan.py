"""What one step computes: the arrays a runner needs, in a form that packs into one buffer for the other ranks. No torch."""

from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int32]


@dataclass(frozen=True)
class Plan:
    """One step over S sequences with T tokens in all; `Plan.idle()` (S = 0) is the beat that keeps ranks in touch.

    Token t of sequence s sits at `query_starts[s] <= t < query_starts[s + 1]`. Keys and values of sequence s are in blocks
    `block_ids[block_starts[s]:block_starts[s + 1]]` of the paged cache; this step writes token t's at slot
    `block * block_size + offset`, then attends over the first `context_lengths[s]` positions.
    """

    tokens: Int  # [T] input token ids
    positions: Int  # [T] positions in their sequences
    slots: Int  # [T] where each token's keys and values go
    query_starts: Int  # [S + 1] offsets into the three above
    context_lengths: Int  # [S] tokens in the cache once this step has written its own
    block_ids: Int  # [sum of blocks] block tables, one after another
    block_starts: Int  # [S + 1] offsets into block_ids
    sampled: Int  # [N] the sequences, ascending, whose last token's logits are sampled
    temperatures: NDArray[np.float32]  # [N] 0 is greedy
    top_ps: NDArray[np.float32]  # [N]
    top_ks: Int  # [N] 0 keeps all
    seeds: NDArray[np.uint64]  # [N]
    output_positions: Int  # [N] index in the output of the token to sample: the position in hash(seed, position)
    logprobs: Int  # [N] alternatives to return, -1 for no log probabilities at all

    def pack(self) -> NDArray[np.uint8]:
        """One buffer: a header of int32 lengths, then every array in the order of the fields."""
        arrays = [getattr(self, field.name) for field in fields(self)]
        header = np.array([len(array) for array in arrays], np.int32)
        return np.concatenate([np.ascontiguousarray(array).view(np.uint8) for array in (header, *arrays)])

    @classmethod
    def unpack(cls, buffer: NDArray[np.uint8]) -> "Plan":
        """The inverse of `pack`; trailing bytes are ignored."""
        names = [field.name for field in fields(cls)]
        offset = 4 * len(names)
        lengths = buffer[:offset].view(np.int32)
        arrays = []
        for name, length in zip(names, lengths, strict=True):
            dtype = DTYPES.get(name, np.dtype(np.int32))
            size = int(length) * dtype.itemsize
            arrays.append(buffer[offset : offset + size].copy().view(dtype))
            offset += size
        return cls(*arrays)

    @classmethod
    def idle(cls) -> "Plan":
        """A step that computes nothing."""
        starts = {"query_starts", "block_starts"}
        return cls(*(np.zeros(int(f.name in starts), DTYPES.get(f.name, np.dtype(np.int32))) for f in fields(cls)))


DTYPES: dict[str, np.dtype[Any]] = {
    "temperatures": np.dtype(np.float32),
    "top_ps": np.dtype(np.float32),
    "seeds": np.dtype(np.uint64),
}


@dataclass(frozen=True)
class Sampled:
    """What a runner returns for a plan: one row per entry of `plan.sampled`."""

    tokens: Int  # [N] -1 where the logits are not finite
    logprobs: NDArray[np.float32]  # [N] natural log, temperature 1; 0 where not asked for
    top_ids: list[Int]  # N arrays of as many alternatives as asked for, most likely first, ties to the lowest id
    top_logprobs: list[NDArray[np.float32]]  # same shapes


class Runner(Protocol):
    """Computes steps: the torch runner with its shards, or a cost model. Called from one thread."""

    def execute(self, plan: Plan) -> Sampled:
        """Runs one step on every rank and returns when its tokens are sampled. Raises when a rank is lost or late."""

    def close(self) -> None:
        """Lets the other ranks go and frees the cache."""
