"""What the gateway does beside requests, from its start to its end. Knows no task's purpose."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

logger = logging.getLogger(__name__)

Task = Callable[[], Awaitable[None]]
AGAIN_S = 1.0  # after a failure: of the database, or a bug


@asynccontextmanager
async def running(tasks: Sequence[Task]) -> AsyncIterator[None]:
    """Runs the tasks, each begun again when it fails, and cancels them at the end."""
    started = [asyncio.create_task(_kept(task)) for task in tasks]
    try:
        yield
    finally:
        for task in started:
            task.cancel()
        await asyncio.gather(*started, return_exceptions=True)


async def _kept(task: Task) -> None:
    while True:
        try:
            return await task()
        except Exception:
            logger.exception("a background task failed; it begins again")
        await asyncio.sleep(AGAIN_S)
