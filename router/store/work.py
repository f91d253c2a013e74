"""A queue of what runs in the background, held by leases: exact across processes. Knows no work's meaning.

A lease is over by the database's clock, so hosts need not agree on the time. Every claim counts as an attempt, and whoever
comes with an older one, or another's, has lost the work.

Tenants take turns: each of a tenant's works is a turn later than the one before, and none is before what was served last. So
while work of two tenants waits, neither is served more than twice between two works of the other (start-time fair queueing,
Goyal, Vin and Cheng 1996).
"""

import asyncio
import logging
from collections.abc import Collection, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ossia.common.errors import UserError
from router.shares import Shares
from router.store.database import Database, Unavailable
from router.store.responses import Json
from router.store.seal import Seal
from router.store.tables import work

logger = logging.getLogger(__name__)

POLL_S = 1.0  # between looks for what other processes have added
ASIDE_S = 3600.0  # between looks at what no key of the operator's opens


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
        self._claiming = asyncio.Lock()

    async def add(self, kind: str, id_: str, tenant: str, payload: Json, priority: int = 0) -> None:
        """Queues work; ids of a kind are used once. Higher priorities go first, tenants take turns. Whoever listens is told."""
        row = {"kind": kind, "id": id_, "tenant": tenant, "priority": priority, "attempt": 0, "free_at": 0.0}
        content = self._seal.dump(payload, "work", kind, tenant, id_)
        async with self._database.begin() as connection:
            await self._database.alone(connection, f"work/{kind}/{tenant}")
            turn = await self._turn(connection, kind, tenant, priority)
            await connection.execute(insert(work).values(**row, turn=turn, content=content))
            self._database.tell(_topic(kind))

    async def _turn(self, connection: AsyncConnection, kind: str, tenant: str, priority: int) -> int:
        """That of the tenant's next work: behind its own, and not before what was served last or waits. What is put aside
        counts for nobody.
        """
        there = or_(work.c.attempt > 0, work.c.free_at <= self._database.now)
        turns = select(work.c.turn).where(work.c.kind == kind, work.c.priority == priority, there).limit(1)
        latest, earliest = turns.order_by(work.c.turn.desc()), turns.order_by(work.c.turn)
        found = latest.where(work.c.attempt > 0), earliest.where(work.c.attempt == 0), latest.where(work.c.tenant == tenant)
        row = (await connection.execute(select(*(each.scalar_subquery() for each in found)))).one()
        served, waiting, own = (-1 if turn is None else turn for turn in row)
        return max(served, waiting, own + 1)

    async def claim(self, kind: str, owner: str, lease_s: float, crowded: Collection[str] = ()) -> Work | None:
        """The most urgent work that nobody has, or whose lease is over, of the tenant whose turn it is; None: there is none.

        Nothing of the `crowded` tenants. What no key opens is put aside, and the log tells.
        """
        while True:
            row = await self._take(kind, owner, lease_s, crowded)
            if row is None:
                return None
            try:
                payload = self._seal.load(row.content, "work", kind, row.tenant, row.id)
            except UserError as error:
                logger.error("work is put aside for an hour: %s", error, extra={"kind": kind, "id": row.id})
                await self.release(Work(kind, row.id, row.tenant, {}, owner, row.attempt), ASIDE_S, failed=False)
            else:
                return Work(kind, row.id, row.tenant, payload, owner, row.attempt)

    async def _take(self, kind: str, owner: str, lease_s: float, crowded: Collection[str]) -> Row[Any] | None:
        now = self._database.now
        free = select(work.c.place).where(work.c.kind == kind, work.c.free_at <= now, work.c.tenant.not_in(crowded))
        order = work.c.priority.desc(), work.c.turn, work.c.place
        first = free.order_by(*order).limit(1).with_for_update(skip_locked=True)
        taken = update(work).where(work.c.place == first.scalar_subquery())
        taken = taken.values(owner=owner, attempt=work.c.attempt + 1, free_at=now + lease_s)
        async with self._database.begin() as connection:
            row: Row[Any] | None = (await connection.execute(taken.returning(work))).one_or_none()
        return row

    async def next(self, kind: str, owner: str, lease_s: float, shares: Shares | None = None) -> Work:
        """Waits until there is work, and claims it: of no tenant that has its share, and for one it is counted there.

        Whoever leaves `shares` wakes the kind.
        """
        with self.listening(kind) as heard:
            while True:
                heard.clear()
                try:
                    if self._database.opened and (claimed := await self._share(kind, owner, lease_s, shares)):
                        return claimed
                except Unavailable as error:
                    logger.warning("no work can be claimed: %s", error, extra={"kind": kind})
                with suppress(TimeoutError):
                    await asyncio.wait_for(heard.wait(), POLL_S)

    async def _share(self, kind: str, owner: str, lease_s: float, shares: Shares | None) -> Work | None:
        """One claim at a time, so that none is made before the last is counted."""
        async with self._claiming:
            claimed = await self.claim(kind, owner, lease_s, shares.crowded if shares else ())
            if claimed and shares:
                shares.enter(claimed.tenant)
            return claimed

    def wake(self, kind: str) -> None:
        """Has those who wait for work of the kind look again, in this process."""
        self._database.wake(_topic(kind))

    async def hold(self, held: Work, lease_s: float, job: Coroutine[Any, Any, None]) -> None:
        """Runs the job for as long as the lease is held, and cancels it when that is lost or the work is cancelled, or when the
        database is away for longer than the lease.

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
                    end = asyncio.get_running_loop().time() + lease_s
                    await asyncio.wait(futures, timeout=lease_s / 3, return_when=asyncio.FIRST_COMPLETED)
                    if not task.done() and not await self._insist(held, lease_s, task, end):
                        return
            finally:
                wakes.cancel()
        task.result()

    async def _insist(self, held: Work, lease_s: float, task: "asyncio.Future[None]", end: float) -> Lease:
        """Renews it as soon as the database answers. Raises Unavailable where that is not before the `end`."""
        while not task.done():
            try:
                return await self.renew(held, lease_s)
            except Unavailable:
                if asyncio.get_running_loop().time() >= end:
                    raise
            await asyncio.wait((task,), timeout=POLL_S)
        return Lease.HELD

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
