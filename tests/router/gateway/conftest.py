"""The gateway on a real loopback port, in front of a scripted engine, with the client that users have."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from prometheus_client import CollectorRegistry

from router.engine import Engine
from router.gateway.app import create_app
from router.gateway.server import listen, serving
from router.gateway.settings import Settings


class Gateway:
    """A running gateway; `client` never retries."""

    def __init__(self, url: str, registry: CollectorRegistry) -> None:
        self.url = url
        self.registry = registry
        self.client = AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
        self.http = httpx.AsyncClient(base_url=url)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def running(engine: Engine, settings: Settings | None = None, **parts: Any) -> AsyncIterator[Gateway]:
    """`parts` as create_app has them."""
    registry = CollectorRegistry()
    socket = listen("127.0.0.1", 0)
    async with serving(create_app(engine, settings, registry, **parts), socket):
        gateway = Gateway(f"http://127.0.0.1:{socket.getsockname()[1]}", registry)
        async with gateway.client, gateway.http:
            yield gateway


async def eventually(condition: Callable[[], object]) -> None:
    """Returns once what the server's tasks do has come about."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - there is no event for what the server does behind its socket
            await asyncio.sleep(0.01)


@pytest.fixture
async def start() -> AsyncIterator[Callable]:
    """Starts a gateway: `gateway = await start(engine, settings, access=...)`."""
    async with AsyncExitStack() as stack:

        async def begin(engine: Engine, settings: Settings | None = None, **parts: Any) -> Gateway:
            return await stack.enter_async_context(running(engine, settings, **parts))

        yield begin
