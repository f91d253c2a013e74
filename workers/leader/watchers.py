"""Watchers of the KV cache: each is told all that is cached, then every change, or is cut off where it does not keep up."""

import asyncio
from collections import deque

from workers.engine.errors import Cause, Refusal
from workers.engine.report import KvEvents

MAX_BEHIND = 1 << 18  # names that a watcher has not taken, 16 bytes each


class KvWatcher:
    """Between the reports of the engine and one watcher. Registered before its snapshot is asked for, so it misses nothing."""

    def __init__(self) -> None:
        self._events: deque[KvEvents] = deque()
        self._behind = 0  # names in these
        self._begun = False
        self._over: Refusal | None = None
        self._wake = asyncio.Event()

    def begin(self, snapshot: KvEvents) -> None:
        """Takes in what its changes go on from; what it has of them already may be in the snapshot."""
        self._events = deque(events for events in self._events if events.sequence > snapshot.sequence)
        self._behind = sum(map(_names, self._events))
        self._events.appendleft(snapshot)
        self._begun = True
        self._wake.set()

    def add(self, events: KvEvents) -> None:
        self._behind += _names(events)
        if self._over is None and self._behind > MAX_BEHIND:
            message = f"more than {MAX_BEHIND} changes are not taken yet: watch anew"
            self.end(Refusal(Cause.EXHAUSTED, message, reason="WATCHER_BEHIND"))
        if self._over is None:
            self._events.append(events)
            self._wake.set()

    def end(self, refusal: Refusal) -> None:
        """Nothing more is told."""
        self._over = refusal
        self._events.clear()
        self._wake.set()

    async def take(self) -> KvEvents:
        """The next events, the snapshot first; raises what ended the watcher."""
        while self._over is None and not (self._begun and self._events):
            self._wake.clear()
            await self._wake.wait()
        if self._over is not None:
            raise self._over
        events = self._events.popleft()
        if not events.snapshot:
            self._behind -= _names(events)
        return events


def _names(events: KvEvents) -> int:
    return sum(map(len, (events.full_removed, events.full_stored, events.sliding_removed, events.sliding_stored)))
