"""How long recent steps took."""

from bisect import bisect_left, insort
from collections import deque


class StepTimes:
    """Durations of the last `window` steps."""

    def __init__(self, window: int = 256) -> None:
        self._window = window
        self._seconds: deque[float] = deque()
        self._ordered: list[float] = []

    def add(self, seconds: float) -> None:
        if len(self._seconds) == self._window:
            del self._ordered[bisect_left(self._ordered, self._seconds.popleft())]
        self._seconds.append(seconds)
        insort(self._ordered, seconds)

    @property
    def p99_ms(self) -> float:
        """The 99th percentile (nearest rank) in milliseconds; 0 before the first step."""
        return 1e3 * self._ordered[-(-99 * len(self._ordered) // 100) - 1] if self._ordered else 0.0
