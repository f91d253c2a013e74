"""Deletes what is older than the operator wants to keep. Knows no table."""

import asyncio
import time

from router.store.store import Store

EVERY_S = 3600.0


async def expire(store: Store, retention_s: float) -> None:
    """Once an hour, until it is cancelled."""
    while True:
        await store.expire(time.time() - retention_s)
        await asyncio.sleep(EVERY_S)
