"""The queue of background work: who has it, exactly."""

import asyncio
import itertools
import secrets
from collections import Counter
from random import Random

import pytest
from sqlalchemy import update

from router.shares import Shares
from router.store import tables
from router.store.database import Unavailable
from router.store.store import Store
from router.store.work import Lease, Work
from tests.router.store.conftest import KEY

LONG, OVER = 60.0, -1.0


async def add(store: Store, *ids: str, priority: int = 0) -> None:
    for id_ in ids:
        await store.work.add("response", id_, "a", {"id": id_}, priority)


async def claim(store: Store, owner: str = "me", lease_s: float = LONG) -> Work:
    claimed = await store.work.claim("response", owner, lease_s)
    assert claimed is not None
    return claimed


async def test_what_is_urgent_comes_first_then_what_is_old(store: Store) -> None:
    await add(store, "1", "2")
    await add(store, "3", priority=1)
    await store.work.add("batch", "0", "a", {}, 9)
    claimed = [await claim(store) for _ in range(3)]
    assert [work.id for work in claimed] == ["3", "1", "2"]
    assert claimed[0] == Work("response", "3", "a", {"id": "3"}, "me", 1)
    assert await store.work.claim("response", "me", LONG) is None


async def test_tenants_take_turns(store: Store, url: str) -> None:
    """Whatever is added and claimed by whom meanwhile: work of two tenants waits all the time, and each gets its turns."""
    stores = [store, Store(url, [KEY])]  # as two processes have it
    chance, claims, waiting = Random(1), [], Counter[str]()

    async def add_some(tenant: str, count: int) -> None:
        names = [f"{tenant}{secrets.token_hex(4)}" for _ in range(count)]
        await asyncio.gather(*(chance.choice(stores).work.add("response", name, tenant, {}) for name in names))
        waiting[tenant] += count

    async def claim_some(count: int) -> None:
        for _ in range(count):
            tenant = (await claim(chance.choice(stores))).tenant
            claims.append((tenant, {name for name in waiting if waiting[name]}))
            waiting[tenant] -= 1

    await add_some("a", 30)
    for tenant in "bcbcbc":
        await claim_some(2)
        await add_some(tenant, 5)
    await claim_some(40)
    await stores[1].close()
    assert waiting.total() == 8
    for one, other in itertools.permutations("abc", 2):
        for run in between(claims, one, other):
            assert run <= 2, f"{other} was served {run} times while {one} waited"


def between(claims: list[tuple[str, set[str]]], one: str, other: str) -> list[int]:
    """How often the other was served between two works of the one, while it had some."""
    runs = [0]
    for tenant, waiting in claims:
        if tenant == one or one not in waiting:
            runs.append(0)
        elif tenant == other:
            runs[-1] += 1
    return runs


async def test_who_comes_late_does_not_wait_behind_what_others_queued(store: Store) -> None:
    for tenant, count in (("a", 6), ("b", 2)):
        for number in range(count):
            await store.work.add("response", f"{tenant}{number}", tenant, {})
    assert [(await claim(store)).id for _ in range(8)] == ["a0", "b0", "a1", "b1", "a2", "a3", "a4", "a5"]
    await store.work.add("response", "c0", "c", {})  # while what was claimed runs
    await store.work.add("response", "a6", "a", {})
    await store.work.add("response", "urgent", "a", {}, 1)
    assert [(await claim(store)).id for _ in range(3)] == ["urgent", "c0", "a6"]


async def test_a_tenant_that_is_held_up_gives_nobody_a_head_start(store: Store) -> None:
    for tenant, count in (("a", 3), ("b", 6)):
        for number in range(count):
            await store.work.add("response", f"{tenant}{number}", tenant, {})
    for _ in range(4):
        await store.work.claim("response", "me", LONG, ["a"])
    for number in range(6):
        await store.work.add("response", f"c{number}", "c", {})
    rest = [await store.work.claim("response", "me", LONG, ["a"]) for _ in range(4)]
    assert [work.id for work in rest if work] == ["c0", "b4", "c1", "b5"]


async def test_a_tenant_that_has_its_share_leaves_the_rest_to_others(store: Store) -> None:
    shares = Shares(4)
    for number in range(4):
        await store.work.add("response", f"a{number}", "a", {})
    held = [await store.work.next("response", "me", LONG, shares) for _ in range(2)]
    third = asyncio.create_task(store.work.next("response", "me", LONG, shares))
    await asyncio.sleep(0.1)
    assert not third.done()
    await store.work.add("response", "b0", "b", {})
    assert (await asyncio.wait_for(third, 5)).id == "b0"
    shares.leave(held[0].tenant)
    store.work.wake("response")
    assert (await asyncio.wait_for(store.work.next("response", "me", LONG, shares), 5)).id == "a2"


async def test_what_no_key_opens_is_put_aside(store: Store, url: str, caplog: pytest.LogCaptureFixture) -> None:
    await add(store, "1", "2")
    renewed = Store(url, [bytes(32)])  # the key that sealed them is gone
    await renewed.work.add("response", "3", "a", {})
    with caplog.at_level("ERROR"):
        assert (await claim(renewed)).id == "3"
    assert [vars(record)["id"] for record in caplog.records] == ["1", "2"]
    assert "--encryption-key-file" in caplog.text
    caplog.clear()
    assert await renewed.work.claim("response", "me", LONG) is None
    assert not caplog.records
    async with renewed.database.begin() as connection:  # an hour later, and the key is back
        await connection.execute(update(tables.work).where(tables.work.c.owner.is_(None)).values(free_at=0.0))
    assert [((work := await claim(store)).id, work.attempt) for _ in range(2)] == [("1", 1), ("2", 1)]
    await renewed.close()


async def test_everything_is_claimed_once(store: Store, url: str) -> None:
    other = Store(url, [KEY])  # as another process has it
    await add(store, *(str(number) for number in range(20)))
    claims = [queue.work.claim("response", "any", LONG) for _ in range(15) for queue in (store, other)]
    claimed = await asyncio.gather(*claims)
    await other.close()
    assert sorted(int(work.id) for work in claimed if work) == list(range(20))


async def test_a_lease_that_is_over_is_lost_to_the_next(store: Store) -> None:
    await add(store, "1")
    first = await claim(store, "first", OVER)
    second = await claim(store, "second")
    assert (second.attempt, second.owner) == (2, "second")
    assert await store.work.renew(first, LONG) is Lease.LOST
    assert not await store.work.finish(first)
    assert await store.work.renew(second, LONG) is Lease.HELD
    assert await store.work.finish(second)
    assert not await store.work.finish(second)


async def test_a_lease_that_is_over_can_be_renewed_while_nobody_wants_it(store: Store) -> None:
    await add(store, "1")
    work = await claim(store, lease_s=OVER)
    assert await store.work.renew(work, LONG)
    assert await store.work.claim("response", "other", LONG) is None


async def test_the_same_owner_loses_an_earlier_claim(store: Store) -> None:
    await add(store, "1")
    first = await claim(store, lease_s=OVER)
    await claim(store)
    assert await store.work.renew(first, LONG) is Lease.LOST


async def test_cancelled_work_is_nobodys(store: Store) -> None:
    await add(store, "1", "2")
    work = await claim(store)
    with store.work.listening("response", "1") as heard:
        assert not await store.work.cancel("b", "response", "1")
        assert not heard.is_set()
        assert await store.work.cancel("a", "response", "1")
        assert heard.is_set()
    assert await store.work.renew(work, LONG) is Lease.CANCELLED
    assert not await store.work.finish(work)
    assert not await store.work.cancel("a", "response", "1")
    assert await store.work.cancel("a", "response", "2")
    assert await store.work.claim("response", "me", LONG) is None


async def test_given_back_work_is_free_when_its_time_comes(store: Store) -> None:
    await add(store, "1", "2")
    first, second = await claim(store), await claim(store)
    await store.work.release(first, after_s=LONG)
    await store.work.release(second)
    assert (await claim(store)).id == "2"
    assert await store.work.claim("response", "me", LONG) is None


async def test_whoever_waits_is_woken_by_what_is_committed(store: Store) -> None:
    with store.work.listening("response") as heard:
        with pytest.raises(ZeroDivisionError):
            async with store.transaction():
                await add(store, "1")
                raise ZeroDivisionError
        assert not heard.is_set()
        async with store.transaction():
            await add(store, "2")
            assert not heard.is_set()
        assert heard.is_set()
    assert (await claim(store)).id == "2"


async def test_work_is_waited_for(store: Store, url: str) -> None:
    other = Store(url, [KEY])  # another process, which is not told
    waiting = [asyncio.create_task(each.work.next("response", "any", LONG)) for each in (store, other)]
    await other.open()
    await asyncio.sleep(0)
    await add(store, "1", "2")
    assert sorted([work.id for work in await asyncio.gather(*waiting)]) == ["1", "2"]
    await other.close()


async def test_either_the_owner_or_the_canceller_has_the_last_word(store: Store) -> None:
    async def finish(work: Work) -> bool:
        async with store.transaction():
            if done := await store.work.finish(work):
                await put("completed")
            return done

    async def cancel() -> bool:
        async with store.transaction():
            if done := await store.work.cancel("a", "response", "1"):
                await put("cancelled")
            return done

    async def put(status: str) -> None:
        await store.responses.put("a", {"id": "resp_1", "status": status}, [], conversation=None, previous=None)

    for _ in range(10):
        await add(store, "1")
        finished, cancelled = await asyncio.gather(finish(await claim(store)), cancel())
        assert finished != cancelled
        found = await store.responses.get("a", "resp_1")
        assert found is not None
        assert found.response["status"] == ("completed" if finished else "cancelled")


async def test_a_job_runs_while_its_lease_is_held(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await add(store, "1", "2", "3")
    renew, renewed = store.work.renew, asyncio.Event()

    async def watched(held: Work, lease_s: float) -> Lease:
        lease = await renew(held, LONG)
        renewed.set()
        return lease

    async def forever() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(store.work, "renew", watched)
    work = await claim(store, lease_s=0.3)
    job = asyncio.create_task(store.work.hold(work, 0.3, forever()))
    await asyncio.wait_for(renewed.wait(), 10)
    await asyncio.sleep(0.5)
    assert [(await claim(store)).id for _ in range(2)] == ["2", "3"], "the lease of the first was not renewed"
    await store.work.cancel("a", "response", "1")
    await asyncio.wait_for(job, 10)


async def test_a_job_that_is_stopped_is_given_back(store: Store) -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    async def forever() -> None:
        begun.set()
        await asyncio.Event().wait()

    await add(store, "1")
    work, begun = await claim(store), asyncio.Event()
    with pytest.raises(ZeroDivisionError):
        await store.work.hold(work, LONG, fails())
    job = asyncio.create_task(store.work.hold(work, LONG, forever()))
    await begun.wait()
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    assert (await claim(store)).attempt == 1, "a gateway that stops in order has not failed"


async def test_a_job_outlives_a_database_that_is_away_for_less_than_its_lease(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(store, "1")
    work, renew, asked, back = await claim(store), store.work.renew, asyncio.Event(), asyncio.Event()

    async def renewed(held: Work, lease_s: float) -> Lease:
        if not asked.is_set():
            asked.set()
            raise Unavailable("away")
        back.set()
        return await renew(held, lease_s)

    async def begun() -> None:
        store.database.wake("work/response/1")  # has the lease looked at
        await back.wait()

    monkeypatch.setattr(store.work, "renew", renewed)
    await asyncio.wait_for(store.work.hold(work, LONG, begun()), 20)
