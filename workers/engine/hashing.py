"""The names of cached blocks, as `ossia.v1.KvEvents` publishes them: whoever knows tokens and salt knows the names."""

from bisect import bisect_left
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

NAME_BYTES = 16


class Chain:
    """One sequence's whole blocks by name; each name stands for all tokens up to the block's end, and for the salt.

    `marks` are block numbers before which the sliding window is worth keeping: a message (`<|start|>`) begins in those blocks.
    """

    def __init__(self, salt: bytes, block_size: int, turn_token_id: int) -> None:
        self.names: list[bytes] = []
        self.marks: set[int] = set()
        self._root = _digest(salt)
        self._block_size = block_size
        self._turn_token_id = turn_token_id

    def extend(self, tokens: NDArray[np.int32], start: int) -> None:
        """Takes in what has come behind the first `start` of the sequence's `tokens`."""
        size, whole = self._block_size, len(self.names)
        if len(tokens) - start > 1:
            begun = np.flatnonzero(tokens[start:] == self._turn_token_id) + start
            self.marks.update((begun // size).tolist())
        elif len(tokens) > start and tokens[start] == self._turn_token_id:
            self.marks.add(start // size)
        if whole == len(tokens) // size:
            return
        data = tokens[whole * size : len(tokens) // size * size].astype("<u4").tobytes()
        for at in range(0, len(data), 4 * size):
            before = self.names[-1] if self.names else self._root
            self.names.append(_digest(before + data[at : at + 4 * size]))

    def shared(self, other: "Chain") -> int:
        """Whole blocks that both sequences begin with."""
        most = min(len(self.names), len(other.names))
        return bisect_left(range(most), True, key=lambda number: self.names[number] != other.names[number])


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=NAME_BYTES).digest()
