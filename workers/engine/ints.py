"""An array of int32 that grows at its end, as lists do, and is read as an array without a copy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.int32]


class Ints:
    def __init__(self, values: ArrayLike = ()) -> None:
        self._room: Array = np.array(values, np.int32)
        self.length = len(self._room)

    def __len__(self) -> int:
        return self.length

    @property
    def array(self) -> Array:
        """A view of what there is; void once it grows or is cut."""
        return self._room[: self.length]

    def extend(self, values: Sequence[int]) -> None:
        length = self.length + len(values)
        if length > len(self._room):
            room = np.empty(2 * length, np.int32)
            room[: self.length] = self.array
            self._room = room
        self._room[self.length : length] = values
        self.length = length

    def cut(self, length: int) -> list[int]:
        """Takes away what is behind the first `length` values and returns it."""
        rest: list[int] = self.array[length:].tolist()
        self.length -= len(rest)
        return rest
