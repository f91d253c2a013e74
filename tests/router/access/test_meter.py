"""What gateways draw of accounts, several of them on one database: SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from router.access.ledger import Amounts, Shortage
from router.access.limits import Limits
from router.access.meter import Meter, Meters
from router.store.store import Store

BUDGET = Limits(tokens_per_day=1000)


@pytest.fixture
async def stores(url: str) -> AsyncIterator[list[Store]]:
    """Two processes' views of one database."""
    stores = [Store(url), Store(url)]
    for store in stores:
        await store.open()
    yield stores
    for store in stores:
        await store.close()


def meters(stores: list[Store]) -> list[Meter]:
    """Of one account, in two gateways."""
    return [Meters(store.counters).of("acme") for store in stores]


async def admitted(meter: Meter, need: Amounts, limits: Limits, times: int) -> int:
    async def once() -> bool:
        try:
            await meter.take(need, limits)
        except Shortage:
            return False
        return True

    return sum(await asyncio.gather(*(once() for _ in range(times))))


async def test_a_budget_is_exact_across_gateways(stores: list[Store]) -> None:
    pair = meters(stores)
    counts = await asyncio.gather(*(admitted(meter, Amounts(tokens=7), BUDGET, 100) for meter in pair))
    assert 900 // 7 <= sum(counts) <= 1000 // 7  # some may be drawn ahead by the other
    for meter in pair:
        await meter.flush()
    while sum(counts) < 1000 // 7:
        assert await admitted(pair[0], Amounts(tokens=7), BUDGET, 1)
        counts[0] += 1
    with pytest.raises(Shortage) as raised:
        await pair[1].take(Amounts(tokens=7), BUDGET)
    assert raised.value.kind == "day"


async def test_what_was_reserved_and_not_used_comes_back(stores: list[Store]) -> None:
    one, other = meters(stores)
    await one.take(Amounts(tokens=900), BUDGET)
    with pytest.raises(Shortage):
        await other.take(Amounts(tokens=500), BUDGET)
    one.give(Amounts(tokens=850), one.day)
    await one.flush()
    await other.take(Amounts(tokens=950), BUDGET)
    with pytest.raises(Shortage):
        await one.take(Amounts(tokens=1), BUDGET)


async def test_requests_at_once_are_exact_across_gateways(stores: list[Store]) -> None:
    limits, slot = Limits(concurrent_requests=10), Amounts(slots=1)
    pair = meters(stores)
    counts = await asyncio.gather(*(admitted(meter, slot, limits, 10) for meter in pair))
    assert sum(counts) == 10
    pair[0 if counts[0] else 1].give(slot, 0)
    for meter in pair:
        await meter.flush()
    assert await admitted(pair[1], slot, limits, 2) == 1


async def test_most_requests_ask_no_database(stores: list[Store]) -> None:
    limits = Limits(requests_per_minute=6000, tokens_per_minute=10_000_000, concurrent_requests=1000)
    meter = meters(stores)[0]
    changes = 0
    change = meter._counters.change

    async def counted(*arguments: Any) -> Any:
        nonlocal changes
        changes += 1
        return await change(*arguments)

    meter._counters.change = counted  # type: ignore[assignment,method-assign]
    for _ in range(300):
        await meter.take(Amounts(1, 1000, 1), limits)
        meter.give(Amounts(tokens=800, slots=1), meter.day)
    assert changes <= 3


async def test_who_leaves_while_drawing_takes_nothing_along(stores: list[Store]) -> None:
    meter, other = meters(stores)
    leaving = asyncio.create_task(meter.take(Amounts(tokens=1000), BUDGET))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await asyncio.gather(*meter._drawing)
    await meter.flush()
    await other.take(Amounts(tokens=1000), BUDGET)


async def test_an_account_is_not_forgotten_while_something_is_drawn_for_who_left(stores: list[Store]) -> None:
    accounts = Meters(stores[0].counters)
    meter = accounts.of("acme")
    drawing, go = asyncio.Event(), asyncio.Event()
    change = meter._counters.change

    async def slow(*arguments: Any) -> Any:
        drawing.set()
        await go.wait()
        return await change(*arguments)

    meter._counters.change = slow  # type: ignore[assignment,method-assign]
    leaving = asyncio.create_task(meter.take(Amounts(tokens=1000), BUDGET))
    await drawing.wait()
    leaving.cancel()
    await asyncio.wait([leaving])
    await accounts.flush()
    go.set()
    await asyncio.gather(*meter._drawing)
    await accounts.flush()
    await meters(stores)[1].take(Amounts(tokens=1000), BUDGET)


async def test_an_account_nobody_uses_is_forgotten(stores: list[Store]) -> None:
    accounts = Meters(stores[0].counters)
    meter = accounts.of("acme")
    meter.users += 1
    await meter.take(Amounts(1, 10, 1), Limits(requests_per_minute=60, concurrent_requests=100))
    await accounts.flush()
    assert accounts.of("acme") is meter
    meter.give(Amounts(slots=1), meter.day)
    meter.users -= 1
    await accounts.flush()
    assert accounts.of("acme") is not meter


async def test_who_is_refused_at_once_hears_what_is_left(stores: list[Store]) -> None:
    one, other = meters(stores)
    limits = Limits(requests_per_minute=2)
    await one.take(Amounts(requests=2), limits)
    with pytest.raises(Shortage):
        await other.take(Amounts(requests=1), limits)
    assert other.minute()["requests"][:2] == (2, 0)
