"""Answers batches, one line like a request of its own, and goes on where another gateway left off. Knows no endpoint.

The result of a line is stored as it comes; a line whose result was not is asked again.
"""

import asyncio
import secrets
import time
from contextlib import aclosing, suppress

from ossia.common.race import first
from router.access.principal import Principal
from router.gateway.batches import document
from router.gateway.batches.ending import Ending
from router.gateway.batches.lines import Line, check
from router.gateway.batches.progress import Progress
from router.gateway.errors import Json
from router.gateway.inside import Inside
from router.gateway.intake import Intake
from router.shares import Shares
from router.store.database import Unavailable
from router.store.store import Store
from router.store.work import POLL_S, Work

KIND = "batch"
LEASE_S = 15.0
AT_ONCE = 32  # lines
PRIORITY = -(1 << 31)  # behind everybody who waits for an answer
MOST_ATTEMPTS = 100  # claims, after which a batch is what fails


class Runner:
    """Runs one batch at a time; a gateway has several, which share them between tenants."""

    def __init__(self, store: Store, inside: Inside, intake: Intake, shares: Shares) -> None:
        self._store = store
        self._inside = inside
        self._intake = intake
        self._shares = shares
        self._progress = Progress(store, intake)
        self._ending = Ending(self._progress)
        self._owner = secrets.token_hex(8)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            held = await self._store.work.next(KIND, self._owner, LEASE_S, self._shares)
            try:
                await self._store.work.hold(held, LEASE_S, self._advance(held))
            finally:
                self._shares.leave(held.tenant)
                self._store.work.wake(KIND)

    async def _advance(self, held: Work) -> None:
        """Brings a batch to its end from wherever it is."""
        batch = await self._store.batches.get(held.tenant, held.id)
        if batch is not None and held.attempt > MOST_ATTEMPTS:
            batch = await self._fail(held, "internal_error", "the batch could not be run; the log tells more")
        elif batch is not None and batch["status"] == "validating":
            batch = await self._validate(held, batch)
        if batch is not None and batch["status"] == "in_progress":
            assert isinstance(expires := batch["expires_at"], int)
            await first(self._answer(held, batch), self._cancelling(held), timeout_s=max(0, expires - time.time()))
        await self._ending.end(held)

    async def _validate(self, held: Work, batch: Json) -> Json | None:
        content = self._store.files.content(str(batch["input_file_id"]))
        checked = await check(content, str(batch["endpoint"]), self._intake)
        if checked.mistakes:
            return await self._progress.move(held, "validating", "failed", errors=document.errors(checked.mistakes))
        counts = document.counts(checked.total, 0, 0)
        return await self._progress.move(held, "validating", "in_progress", request_counts=counts)

    async def _answer(self, held: Work, batch: Json) -> None:
        slots = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group, aclosing(self._progress.left(held.id, batch)) as lines:
            async for line in lines:
                await slots.acquire()
                task = group.create_task(self._ask(held, str(batch["endpoint"]), line))
                task.add_done_callback(lambda _: slots.release())

    async def _ask(self, held: Work, endpoint: str, line: Line) -> None:
        id_, principal = f"batch_req_{secrets.token_hex(16)}", Principal.of(held.payload)
        while True:
            reply = await self._inside.post(endpoint, line.body, principal, id_, PRIORITY, held.id)
            if reply.retry_after_s is None:
                break
            await asyncio.sleep(reply.retry_after_s)
        response: Json = {"status_code": reply.status, "request_id": id_, "body": reply.body}
        result = document.result(id_, line.custom_id, response, None)
        while True:
            try:
                return await self._store.batches.add_result(held.id, line.number, result, failed=reply.status >= 400)
            except Unavailable:  # the answer is not to be had twice: it waits for as long as the lease is held
                await asyncio.sleep(POLL_S)

    async def _cancelling(self, held: Work) -> None:
        """Returns once somebody wants the batch to end."""
        with self._store.batches.listening(held.id) as heard:
            while True:
                heard.clear()
                with suppress(Unavailable):
                    batch = await self._store.batches.get(held.tenant, held.id)
                    if batch is None or batch["status"] != "in_progress":
                        return
                with suppress(TimeoutError):
                    await asyncio.wait_for(heard.wait(), POLL_S)

    async def _fail(self, held: Work, code: str, message: str) -> Json | None:
        mistake: Json = {"code": code, "message": message, "line": None, "param": None}
        return await self._progress.move(held, None, "failed", errors=document.errors([mistake]))
