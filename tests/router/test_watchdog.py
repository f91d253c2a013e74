"""The watchdog on a real event loop."""

import asyncio
import time

from router.watchdog import Watchdog

FLOOR_S = 0.2


class Stalls:
    """When the watchdog barked."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._happened = asyncio.Event()

    def __call__(self) -> None:
        self.times.append(time.monotonic())
        self._happened.set()

    async def first(self) -> float:
        async with asyncio.timeout(30):
            await self._happened.wait()
        return self.times[0]


async def test_our_own_sleep_is_not_the_engines_stall() -> None:
    stalls = Stalls()
    watchdog = Watchdog(FLOOR_S, lambda: True, stalls)
    watchdog.expect()
    time.sleep(2 * FLOOR_S)  # noqa: ASYNC251  # the whole process stands still, as on a suspended host
    awake = time.monotonic()
    assert await stalls.first() - awake >= FLOOR_S


async def test_silence_without_work_is_no_stall() -> None:
    stalls = Stalls()
    busy = True
    watchdog = Watchdog(FLOOR_S, lambda: busy, stalls)
    watchdog.expect()
    busy = False
    await asyncio.sleep(2 * FLOOR_S)
    assert not stalls.times
    watchdog.expect()
    busy = True
    time.sleep(FLOOR_S / 20)  # noqa: ASYNC251  # no longer: twenty steps are the floor, too
    stepped = time.monotonic()
    watchdog.beat(1, delivered=False)
    assert await stalls.first() - stepped >= FLOOR_S  # the step began the count anew
    busy = False
    watchdog.expect()
    busy = True
    watchdog.close()
    await asyncio.sleep(2 * FLOOR_S)
    assert len(stalls.times) == 1
