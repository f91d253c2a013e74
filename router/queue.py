"""Where requests wait while no replica can take them: bounded in number, each with its own deadline."""

import asyncio
from collections.abc import Callable

import grpc

from router.engine import EngineError

RETRY_AFTER_S = 5.0


class Queue:
    """Holds at most `bound` requests that no replica has seen yet; those that lost their replica come on top and go first."""

    def __init__(self, bound: int, changed: Callable[[int], None] = lambda depth: None) -> None:
        self._bound = bound
        self._changed = changed
        self._waiting: dict[asyncio.Future[None], tuple[bool, int, int]] = {}  # in the order of arrival
        self._arrivals = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, wait_s: float, *, priority: int, resumed: bool) -> None:
        """Returns when a replica may take the request.

        Raises EngineError UNAVAILABLE: at once (QUEUE_FULL), after `wait_s` seconds (NO_REPLICA), or once the queue is closed
        (STOPPING).
        """
        self._check_open()
        if not resumed and len(self._waiting) >= self._bound:
            message = f"no replica is ready and {self._bound} requests wait already"
            raise EngineError(grpc.StatusCode.UNAVAILABLE, message, reason="QUEUE_FULL", retry_after_s=RETRY_AFTER_S)
        turn = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        self._waiting[turn] = (not resumed, -priority, self._arrivals)
        self._changed(len(self._waiting))
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except TimeoutError:
            message = "no replica became ready in time"
            raise EngineError(grpc.StatusCode.UNAVAILABLE, message, reason="NO_REPLICA", retry_after_s=RETRY_AFTER_S) from None
        finally:
            self._waiting.pop(turn, None)
            self._changed(len(self._waiting))
        self._check_open()

    def wake(self) -> None:
        """A replica became ready: everyone goes, those that lost a replica first, then by priority, then by arrival."""
        for turn in sorted(self._waiting, key=self._waiting.__getitem__):
            if not turn.done():
                turn.set_result(None)
        self._waiting.clear()

    def close(self) -> None:
        """Nobody waits any more, now or later."""
        self._closed = True
        self.wake()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError(grpc.StatusCode.UNAVAILABLE, "this router is stopping", reason="STOPPING", retry_after_s=1)
