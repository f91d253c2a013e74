"""Several processes on one port: started, watched, started again when they die, stopped together. Knows not what they serve.

The kernel spreads connections over the sockets that listen on the port (SO_REUSEPORT,
https://man7.org/linux/man-pages/man7/socket.7.html). A process that dies takes its socket with it, so new connections go to the
others. Processes end when their parent does, however that ends: the socket pair between them tells.
"""

import asyncio
import logging
import signal
import time

from prometheus_client import CollectorRegistry, Counter

from ossia.common.errors import UserError
from router.backoff import Backoff
from router.gateway.exposition import OPENMETRICS, accepted
from router.gateway.member import Member, Work
from router.gateway.seat import announce
from router.gateway.totals import Totals

EXTRA_S = 10.0  # beyond the grace, for a process to end by itself
STEADY_S = 60.0  # a process that lived so long is started again soon after its end

logger = logging.getLogger(__name__)


class Processes:
    """`count` processes that do `work`, each with a Seat. `grace_s` is what they take to stop."""

    def __init__(self, work: Work, count: int, grace_s: float) -> None:
        self._members = [Member(work, grace_s + EXTRA_S) for _ in range(count)]
        self._totals = Totals()
        self._registry = CollectorRegistry()
        self._restarts = Counter(
            "ossia_gateway_process_restarts", "Processes of the gateway started again.", registry=self._registry
        )
        self._stop = asyncio.Event()

    async def run(self, url: str) -> None:
        """Serves until SIGTERM or SIGINT. Raises UserError where they cannot start."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        running = asyncio.create_task(self._run(url))
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
        finally:
            stopped.cancel()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await asyncio.gather(*(member.stop() for member in self._members))

    async def _run(self, url: str) -> None:
        first, *others = self._members
        await first.start(self._answer)  # alone: the database is made once, and a mistake about it told once
        await asyncio.gather(*(member.start(self._answer) for member in others))
        announce(url)
        logger.info("serving on %s with %d processes", url, len(self._members))
        async with asyncio.TaskGroup() as group:
            for member in self._members:
                group.create_task(self._keep(member))

    async def _keep(self, member: Member) -> None:
        backoff = Backoff(first_s=0.1, most_s=30.0)
        while True:
            began = time.monotonic()
            logger.error("process %d ended with code %s; starting another", member.pid, await member.ended())
            self._totals.ended(member.retire())
            self._restarts.inc()
            if time.monotonic() - began > STEADY_S:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())
            try:
                await member.start(self._answer)
            except (UserError, OSError) as error:  # it was none when the others began: what is wrong now may be right soon
                logger.error("a process cannot start: %s", error)

    async def _answer(self, media_type: str) -> str:
        """The metrics of all."""
        texts = await asyncio.gather(*(member.tell() for member in self._members))
        totals = self._totals.of([*texts, OPENMETRICS.encode(self._registry).decode()])
        return accepted(media_type).encode(totals).decode()
