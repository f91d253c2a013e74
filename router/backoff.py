"""Delays between attempts: doubling, bounded, with jitter so that many routers do not knock at once."""

import random


class Backoff:
    """`first_s` and `most_s` in seconds; each delay is drawn from the upper half of its range."""

    def __init__(self, first_s: float = 0.1, most_s: float = 5.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._attempts = 0

    def reset(self) -> None:
        """Things work again."""
        self._attempts = 0

    def next_s(self) -> float:
        """The delay before the next attempt, seconds."""
        ceiling = min(self._first_s * 2.0**self._attempts, self._most_s)
        self._attempts = min(self._attempts + 1, 32)
        return ceiling * random.uniform(0.5, 1.0)
