"""Whether an output repeats itself, told token by token at the cost of one look at the longest pattern. Knows no request."""

from collections.abc import Sequence

import numpy as np

from workers.engine.ints import Array
from workers.engine.sampling import RepetitionDetection


class Repetition:
    """`found`: the last `count * size` tokens are one pattern of `size` tokens, `min_count` times, for a size that is wanted.

    For each size it holds how many tokens in a row, up to the last, equal the token so many places before them.
    """

    def __init__(self, wanted: RepetitionDetection) -> None:
        self._wanted = wanted
        self._needed = (wanted.min_count - 1) * np.arange(wanted.min_pattern_size, wanted.max_pattern_size + 1)
        self._runs = np.zeros_like(self._needed)
        self.reach = wanted.min_count * wanted.max_pattern_size  # how many of the last tokens say whether it is found
        self.found = False

    def add(self, output: Array) -> None:
        """Takes in the last token of the output."""
        least, last = self._wanted.min_pattern_size, len(output) - 1
        most = min(self._wanted.max_pattern_size, last)
        if most < least:
            return
        runs = self._runs[: most - least + 1]
        runs += 1
        runs *= output[last - most : last - least + 1][::-1] == output[last]
        self.found = bool((self._runs >= self._needed).any())

    def before(self, output: Array, tokens: Sequence[int]) -> int:
        """How many of these may follow the output before one with which it repeats itself."""
        ahead = Repetition(self._wanted)
        ahead._runs = self._runs.copy()
        longer = np.append(output[-self._wanted.max_pattern_size :], np.asarray(tokens, np.int32))
        for count in range(len(tokens)):
            ahead.add(longer[: len(longer) - len(tokens) + count + 1])
            if ahead.found:
                return count
        return len(tokens)
