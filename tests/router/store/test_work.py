"""The queue of background work: who has it, exactly."""

import asyncio

import pytest

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


async def test_a_job_runs_while_its_lease_is_held(store: Store) -> None:
    await add(store, "1", "2", "3")

    async def forever() -> None:
        await asyncio.Event().wait()

    work = await claim(store, lease_s=0.3)
    job = asyncio.create_task(store.work.hold(work, 0.3, forever()))
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
