"""Tallies that several gateways change, and keys: on SQLite and PostgreSQL."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import update

from router.store.keys import StoredKey
from router.store.store import Store
from router.store.tables import accounts


def counted(tally: dict[str, Any], now: float) -> tuple[dict[str, Any], int]:
    return {"count": tally.get("count", 0) + 1}, tally.get("count", 0)


async def test_no_change_is_lost(url: str) -> None:
    stores = [Store(url), Store(url)]
    before = await asyncio.gather(*(stores[turn % 2].counters.change("acme", counted) for turn in range(40)))
    assert sorted(before) == list(range(40))
    assert await stores[0].counters.change("else", counted) == 0
    for store in stores:
        await store.close()


async def test_a_step_that_raises_changes_nothing(store: Store) -> None:
    def refuse(tally: dict[str, Any], now: float) -> tuple[dict[str, Any], None]:
        raise ValueError("no")

    await store.counters.change("acme", counted)
    with pytest.raises(ValueError, match="no"):
        await store.counters.change("acme", refuse)
    assert await store.counters.change("acme", counted) == 1


async def test_accounts_that_nobody_uses_are_forgotten(store: Store) -> None:
    for account in ("idle", "used"):
        await store.counters.change(account, counted)
    async with store.database.begin() as connection:
        await connection.execute(
            update(accounts).where(accounts.c.name == "idle").values(changed=accounts.c.changed - 3 * 86_400)
        )
    await store.expire(0.0)
    assert [await store.counters.change(account, counted) for account in ("idle", "used")] == [0, 1]


async def test_keys(store: Store) -> None:
    one = StoredKey("key_1", "aa", "acme", "ci", ["m"], {"tokens_per_day": 5}, created=1.0, expires=9.0)
    other = StoredKey("key_2", "bb", "else", "", created=2.0)
    for key in (other, one):
        await store.keys.add(key)
    assert await store.keys.find("aa") == await store.keys.get("key_1") == one
    assert await store.keys.find("cc") is None
    assert await store.keys.list() == [one, other]
    assert await store.keys.list("else") == [other]
    assert (one.valid(8.9), one.valid(9.0), other.valid(1e12)) == (True, False, True)
    assert await store.keys.revoke("key_1")
    revoked = await store.keys.get("key_1")
    assert revoked is not None
    assert revoked.revoked is not None
    assert not revoked.valid(0)
    assert await store.keys.revoke("key_1")
    assert await store.keys.get("key_1") == revoked
    assert not await store.keys.revoke("key_3")
