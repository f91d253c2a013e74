"""Watches an engine that has work for the moment when it should have stepped and has not."""

import asyncio
from collections.abc import Callable

from router.pulse import Pulse

LATE = 0.1  # a timer later than this part of the floor means that this process slept, not the engine


class Watchdog:
    """Calls `stalled` when no step came for too long while `busy()`. `floor_s` as in Pulse. Runs on the event loop."""

    def __init__(self, floor_s: float, busy: Callable[[], bool], stalled: Callable[[], None]) -> None:
        self._floor_s = floor_s
        self._busy = busy
        self._stalled = stalled
        self._pulse = Pulse(floor_s)  # on time.monotonic, as the event loop
        self._timer: asyncio.TimerHandle | None = None

    def expect(self) -> None:
        """Work is about to be given to the engine."""
        if not self._busy():
            self._pulse.restart()
        if self._timer is None:
            self._arm()

    def beat(self, step: int, delivered: bool) -> None:
        """As Pulse.beat."""
        self._pulse.beat(step, delivered)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        due = self._pulse.due
        self._timer = asyncio.get_running_loop().call_at(due, self._check, due)

    def _check(self, planned: float) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        if now - planned > LATE * self._floor_s:
            self._pulse.restart()
        if not self._busy():
            return
        if self._pulse.due > now:
            self._arm()
        else:
            self._stalled()
