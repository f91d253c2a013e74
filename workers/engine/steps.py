"""How long recent steps took."""

from collections import deque


class StepTimes:
    """Durations of the last `window` steps."""

    def __init__(self, window: int = 256) -> None:
        self._seconds: deque[float] = deque(maxlen=window)

    def add(self, seconds: float) -> None:
        self._seconds.append(seconds)

    @property
    def p99_ms(self) -> float:
        """The 99th percentile (nearest rank) in milliseconds; 0 before the first step."""
        if not self._seconds:
            return 0.0
        ordered = sorted(self._seconds)
        return 1e3 * ordered[-(-99 * len(ordered) // 100) - 1]
