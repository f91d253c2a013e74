"""Places that tenants share: none has all of them, and nobody is forgotten."""

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from router.shares import Shares


@given(st.integers(1, 20), st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=80))
def test_a_tenant_has_half_of_what_the_others_leave_at_most(places: int, steps: list[tuple[str, bool]]) -> None:
    shares, held = Shares(places), Counter[str]()
    for tenant, comes in steps:
        free = places - held.total()
        if comes and shares.fits(tenant):
            shares.enter(tenant)
            held[tenant] += 1
            assert held[tenant] <= (free + held[tenant]) // 2
        elif comes:
            assert not free or held[tenant] + 1 > (free + held[tenant] + 1) // 2
        elif held[tenant]:
            shares.leave(tenant)
            held[tenant] -= 1
        assert held.total() <= places
        assert shares.crowded == {name for name in held if held[name] and not shares.fits(name)}


def test_whoever_comes_next_finds_a_place_where_there_are_two() -> None:
    shares = Shares(16)
    for _ in range(16):
        if shares.fits("a"):
            shares.enter("a")
    assert shares.crowded == {"a"}
    assert shares.fits("b")


def test_where_nobody_is_told_apart_everyone_may_have_all() -> None:
    shares = Shares(3)
    for _ in range(3):
        assert shares.fits("")
        shares.enter("")
    assert not shares.fits("")


async def test_who_waits_is_let_in_in_order_and_who_may_not_yet_is_passed_by() -> None:
    shares, order, open_ = Shares(2), [], asyncio.Event()

    async def enter(tenant: str, name: str) -> None:
        async with shares.place(tenant):
            order.append(name)
            await open_.wait()

    tasks = [asyncio.create_task(enter(name[0], name)) for name in ("a1", "a2", "b1", "b2")]
    await asyncio.sleep(0)
    assert order == ["a1", "b1"]
    open_.set()
    await asyncio.gather(*tasks)
    assert order == ["a1", "b1", "a2", "b2"]


async def test_who_gives_up_holds_no_place() -> None:
    shares = Shares(1)
    shares.enter("a")
    async with asyncio.timeout(10):
        for cancel_after in (False, True):  # before it is let in, and in the same turn
            waiting = asyncio.create_task(_hold(shares))
            await asyncio.sleep(0)
            if cancel_after:
                shares.leave("a")
            waiting.cancel()
            await asyncio.wait([waiting])
        async with shares.place("b"):
            pass


async def _hold(shares: Shares) -> None:
    async with shares.place("b"):
        await asyncio.Event().wait()
