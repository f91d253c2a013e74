"""Waiting for whichever of several coroutines ends first."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def first(*coroutines: Coroutine[Any, Any, object], timeout_s: float | None = None) -> None:
    """Returns or raises as the first of them does, or returns at the timeout; what still runs is cancelled and has ended."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
