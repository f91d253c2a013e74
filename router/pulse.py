"""Is an engine that has work still stepping? A port that answers proves nothing; a step counter that moves does."""

import time
from collections import deque
from collections.abc import Callable

STALL_FACTOR = 20  # an engine is stalled after this many of its recent slow steps
RECENT = 256  # steps


class Pulse:
    """Times the steps of one engine. Stalled: no step for max(`floor_s`, 20 x the recent p99 step) while work is due."""

    def __init__(self, floor_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._floor_s = floor_s
        self._clock = clock
        self._since = clock()
        self._step = 0
        self._durations: deque[float] = deque(maxlen=RECENT)  # seconds a step

    def restart(self) -> None:
        """Work is due as of now, after a pause in which none was."""
        self._since = self._clock()

    def beat(self, step: int, delivered: bool) -> None:
        """A frame came with this step counter. `delivered`: it brought tokens, which prove life without a step as well."""
        now = self._clock()
        if step > self._step:
            self._durations.append((now - self._since) / (step - self._step))
        if step != self._step or delivered:
            self._since = now
        self._step = step

    @property
    def p99_s(self) -> float:
        """99th percentile of the recent steps' durations, seconds; 0 before the first."""
        ordered = sorted(self._durations)
        return ordered[(len(ordered) * 99) // 100] if ordered else 0.0

    @property
    def due(self) -> float:
        """The clock's time at which the engine counts as stalled unless it beats before."""
        return self._since + max(self._floor_s, STALL_FACTOR * self.p99_s)
