"""The watchdog on a real event loop."""

import asyncio
import time

from router.watchdog import Watchdog

FLOOR_S = 0.2


async def test_our_own_sleep_is_not_the_engines_stall() -> None:
    stalls: list[float] = []
    watchdog = Watchdog(FLOOR_S, lambda: True, lambda: stalls.append(time.monotonic()))
    watchdog.expect()
    time.sleep(2 * FLOOR_S)  # noqa: ASYNC251  # the whole process stands still, as on a suspended host
    awake = time.monotonic()
    await asyncio.sleep(FLOOR_S / 2)
    assert not stalls
    await asyncio.sleep(FLOOR_S)
    assert stalls and stalls[0] - awake >= FLOOR_S


async def test_silence_without_work_is_no_stall() -> None:
    stalls: list[None] = []
    busy = True
    watchdog = Watchdog(FLOOR_S, lambda: busy, lambda: stalls.append(None))
    watchdog.expect()
    busy = False
    await asyncio.sleep(2 * FLOOR_S)
    assert not stalls
    watchdog.expect()
    busy = True
    await asyncio.sleep(FLOOR_S / 2)
    watchdog.beat(1, delivered=False)
    await asyncio.sleep(FLOOR_S * 0.75)
    assert not stalls  # the step began the count anew
    watchdog.close()
    await asyncio.sleep(FLOOR_S)
    assert not stalls
