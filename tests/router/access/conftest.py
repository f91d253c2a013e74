"""Stores for what gateways share, and a gateway whose callers must say who they are."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from router.access.access import Access
from router.access.config import AccessConfig
from router.engine import Engine
from router.gateway.settings import Settings
from router.store.store import Store
from tests.router.gateway.conftest import Gateway, running
from tests.router.store.conftest import postgres, url

__all__ = ["postgres", "url"]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/store.db")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def guarded(store: Store) -> AsyncIterator[Callable[..., Any]]:
    """Starts a gateway: `gateway = await guarded(engine, keys=True)`, with the settings of an access file."""
    async with AsyncExitStack() as stack:

        async def begin(engine: Engine, gateway: Settings | None = None, **settings: Any) -> Gateway:
            access = Access(AccessConfig.model_validate(settings), store)
            await access.open()
            stack.push_async_callback(access.close)
            return await stack.enter_async_context(running(engine, gateway, access=access))

        yield begin
