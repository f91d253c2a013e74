"""A queue of what runs in the background, held by leases: exact across processes. Knows no work's meaning.

A lease is over by the database's clock, so hosts need not agree on the time. Every claim counts as an attempt, and whoever
comes with an older one, or another's, has lost the work.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, insert, select, update

from router.store.database import Database
from router.store.responses import Json
from router.store.seal import Seal
from router.store.tables import work

POLL_S = 1.0  # between looks for what other processes have added


@dataclass(frozen=True)
class Work:
    """One claim: `attempt` is 1 for the first owner, more where earlier ones failed or were lost."""

    kind: str
    id: str
    tenant: str
    payload: Json
    owner: str
    attempt: int


class Lease(Enum):
    """What became of a claim; true while it is held."""

    HELD = "held"
    LOST = "lost"  # it was over, and another owner has the work
    CANCELLED = "cancelled"  # the work is not there any more

    def __bool__(self) -> bool:
        return self is Lease.HELD


class WorkQueue:
    """Work by kind and id. In one transaction with what is stored, `finish`, `renew` and `cancel` decide who may store it."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def add(self, kind: str, id_: str, tenant: str, payload: Json, priority: int = 0) -> None:
        """Queues work; ids of a kind are used once. Higher priorities go first. Whoever listens is told."""
        row = {"kind": kind, "id": id_, "tenant": tenant, "priority": priority, "attempt": 0, "free_at": 0.0}
        content = self._seal.dump(payload, "work", kind, tenant, id_)
        async with self._database.begin() as connection:
            await connection.execute(insert(work).values(**row, content=content))
            self._database.tell(_topic(kind))

    async def claim(self, kind: str, owner: str, lease_s: float) -> Work | None:
        """The most urgent and then oldest work that nobody has, or whose lease is over; None: there is none."""
        now = self._database.now
        free = select(work.c.place).where(work.c.kind == kind, work.c.free_at <= now)
        first = free.order_by(work.c.priority.desc(), work.c.place).limit(1).with_for_update(skip_locked=True)
        taken = update(work).where(work.c.place == first.scalar_subquery())
        taken = taken.values(owner=owner, attempt=work.c.attempt + 1, free_at=now + lease_s)
        async with self._database.begin() as connection:
            row = (await connection.execute(taken.returning(work))).one_or_none()
        if row is None:
            return None
        payload = self._seal.load(row.content, "work", kind, row.tenant, row.id)
        return Work(kind, row.id, row.tenant, payload, owner, row.attempt)

    async def next(self, kind: str, owner: str, lease_s: float) -> Work:
        """Waits until there is work, and claims it."""
        with self.listening(kind) as heard:
            while True:
                heard.clear()
                if self._database.opened and (claimed := await self.claim(kind, owner, lease_s)):
                    return claimed
                with suppress(TimeoutError):
                    await asyncio.wait_for(heard.wait(), POLL_S)

    async def hold(self, held: Work, lease_s: float, job: Coroutine[Any, Any, None]) -> None:
        """Runs the job for as long as the lease is held, and cancels it when that is lost or the work is cancelled.

        Raises what the job raises. The work is given back where this is cancelled, which is no attempt that failed.
        """
        task = asyncio.ensure_future(job)
        try:
            await self._keep(held, lease_s, task)
        except asyncio.CancelledError:
            await _ended(task)
            await self.release(held, failed=False)
            raise
        finally:
            await _ended(task)

    async def _keep(self, held: Work, lease_s: float, task: "asyncio.Future[None]") -> None:
        with self.listening(held.kind, held.id) as cancelled:
            wakes = asyncio.ensure_future(cancelled.wait())
            futures: tuple[asyncio.Future[Any], ...] = (task, wakes)
            try:
                while not task.done():
                    await asyncio.wait(futures, timeout=lease_s / 3, return_when=asyncio.FIRST_COMPLETED)
                    if not task.done() and not await self.renew(held, lease_s):
                        return
            finally:
                wakes.cancel()
        task.result()

    async def renew(self, held: Work, lease_s: float) -> Lease:
        """Holds it for so long from now on, also where the lease was over and nobody else has claimed it."""
        mine = update(work).where(_claimed(held)).values(free_at=self._database.now + lease_s)
        there = select(work.c.place).where(work.c.kind == held.kind, work.c.id == held.id)
        async with self._database.begin() as connection:
            if (await connection.execute(mine)).rowcount:
                return Lease.HELD
            return Lease.LOST if (await connection.execute(there)).first() else Lease.CANCELLED

    async def release(self, held: Work, after_s: float = 0.0, *, failed: bool = True) -> None:
        """Gives it back, to be claimed in so many seconds. What has not failed does not count as an attempt."""
        values = {"free_at": self._database.now + after_s, "owner": None, "attempt": held.attempt - (not failed)}
        mine = update(work).where(_claimed(held)).values(values)
        async with self._database.begin() as connection:
            await connection.execute(mine)
            self._database.tell(_topic(held.kind))

    async def finish(self, held: Work) -> bool:
        """Removes it. False: it was lost or cancelled, and what was done must not be stored."""
        async with self._database.begin() as connection:
            return bool((await connection.execute(delete(work).where(_claimed(held)))).rowcount)

    async def cancel(self, tenant: str, kind: str, id_: str) -> bool:
        """Removes it, whoever has it: the owner hears of it at its next renewal, at once in this process.

        False: it is not there, or finished.
        """
        gone = delete(work).where(work.c.kind == kind, work.c.id == id_, work.c.tenant == tenant)
        async with self._database.begin() as connection:
            there = bool((await connection.execute(gone)).rowcount)
            if there:
                self._database.tell(_topic(kind, id_))
            return there

    @contextmanager
    def listening(self, kind: str, id_: str = "") -> Iterator[asyncio.Event]:
        """An event that is set when this process adds or gives back work of the kind; with an id, when it cancels that.

        Clear it before claiming, and wait for it for a second at most: other processes add and cancel as well.
        """
        with self._database.listening(_topic(kind, id_)) as heard:
            yield heard


async def _ended(task: "asyncio.Future[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _claimed(held: Work) -> ColumnElement[bool]:
    return and_(work.c.kind == held.kind, work.c.id == held.id, work.c.owner == held.owner, work.c.attempt == held.attempt)


def _topic(kind: str, id_: str = "") -> str:
    return f"work/{kind}/{id_}"
