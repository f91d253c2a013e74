"""What this gateway has drawn of each account, so that most requests need no database. Knows no request."""

import asyncio
import logging
import secrets
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any

from router.access.ledger import SLOTS_S, Amounts, Ledger
from router.access.limits import NONE, Limits
from router.store.counters import Counters

logger = logging.getLogger(__name__)

_FLUSH_S = 1.0  # after so long, what was drawn and is not used goes back


class Meter:
    """One account in this process. `users` are the grants that have begun and not ended."""

    def __init__(self, account: str, counters: Counters, holder: str) -> None:
        self._account = account
        self._counters = counters
        self._holder = holder
        self._limits = NONE
        self._free = Amounts()
        self._busy = 0  # slots that are used
        self._told = (0, 0.0)  # slots that the database has us hold, and when it heard
        self._seen: tuple[Ledger, float] | None = None  # the account when we saw it last, by our own clock
        self.day = 0  # of the tokens that were drawn last
        self._lock = asyncio.Lock()
        self._drawing: set[asyncio.Task[None]] = set()
        self.users = 0

    @property
    def idle(self) -> bool:
        """Nobody uses it, nor has left while something was drawn, and the database has everything back."""
        return not self.users and not self._drawing and self._free == Amounts() and not self._told[0]

    async def take(self, need: Amounts, limits: Limits, *, begun: bool = False) -> None:
        """Raises Shortage. `begun` as in Ledger.draw."""
        need = need.counted(limits)
        while not self._free.covers(need):
            await self._whole(self._draw(need, limits, begun))
        self._free -= need
        self._busy += need.slots

    def give(self, back: Amounts, day: int) -> None:
        """Takes back what was taken on that day and not used, and the slots."""
        self._busy -= back.slots
        self._free += back if day == self.day else replace(back, tokens=0)

    async def flush(self) -> None:
        """Gives the database back what nobody uses, and holds on to the slots that are used."""
        slots, heard = self._told
        if self._free == Amounts() and slots == self._busy and (not slots or time.monotonic() - heard < SLOTS_S / 3):
            return
        await self._whole(self._return())

    def minute(self) -> Mapping[str, tuple[int, int, float]]:
        """As Ledger.minute, by "requests" and "tokens"; empty where the account was never looked at."""
        if self._seen is None:
            return {}
        ledger, heard = self._seen
        at = ledger.at + time.monotonic() - heard
        return {kind: (limit, left, whole_s) for kind, limit, left, whole_s in ledger.minute(self._free, at)}

    async def _whole(self, change: Coroutine[Any, Any, None]) -> None:
        """Runs to its end even when the request leaves: what the database has counted must be known here."""
        task = asyncio.create_task(change)
        self._drawing.add(task)
        task.add_done_callback(self._drawing.discard)
        await asyncio.shield(task)

    async def _draw(self, need: Amounts, limits: Limits, begun: bool) -> None:
        async with self._lock:
            if self._free.covers(need):
                return

            def step(tally: dict[str, Any], now: float) -> tuple[dict[str, Any], tuple[Ledger, Amounts]]:
                ledger = Ledger(tally, limits, now, self._holder, self._busy + self._free.slots)
                self._seen = ledger, time.monotonic()  # also where it refuses
                own = self._free if ledger.day == self.day else replace(self._free, tokens=0)
                missing = own.short_of(need)
                ledger.draw(missing, begun=begun)
                ahead = ledger.spare().counted(limits)
                ledger.draw(ahead, begun=True)
                return ledger.tally(), (ledger, missing + ahead)

            ledger, drawn = await self._counters.change(self._account, step)
            if ledger.day != self.day:
                self._free = replace(self._free, tokens=0)
            self._limits = limits
            self._heard(ledger)
            self._free += drawn

    async def _return(self) -> None:
        async with self._lock:
            back, self._free = self._free, Amounts()  # should this fail, it counts as used

            def step(tally: dict[str, Any], now: float) -> tuple[dict[str, Any], Ledger]:
                ledger = Ledger(tally, self._limits, now, self._holder, self._busy + self._free.slots + back.slots)
                ledger.give(back, self.day)
                return ledger.tally(), ledger

            self._heard(await self._counters.change(self._account, step))

    def _heard(self, ledger: Ledger) -> None:
        now = time.monotonic()
        self._told = ledger.held, now
        self._seen = ledger, now
        self.day = ledger.day


class Meters:
    """Those of all accounts that are in use here."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._holder = secrets.token_hex(8)
        self._meters: dict[str, Meter] = {}
        self._used = asyncio.Event()

    def of(self, account: str) -> Meter:
        """To be used at once: one that is idle is forgotten."""
        self._used.set()
        if account not in self._meters:
            self._meters[account] = Meter(account, self._counters, self._holder)
        return self._meters[account]

    async def run(self) -> None:
        """Until cancelled: what is not used goes back to the database, every second while there is something."""
        while True:
            await self._used.wait()
            await asyncio.sleep(_FLUSH_S)
            await self.flush()
            if not self._meters:
                self._used.clear()

    async def flush(self) -> None:
        """Gives back what is not used. What fails is logged, and tried again at the next time."""
        for account, meter in list(self._meters.items()):
            try:
                await meter.flush()
            except Exception:
                logger.exception("an account's tokens could not be given back")
            if meter.idle:
                del self._meters[account]
