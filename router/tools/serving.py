"""The operator's tool servers, connected for as long as the gateway runs. Knows no requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from router.tools.config import ToolsConfig
from router.tools.metrics import ToolMetrics
from router.tools.server import McpServer
from router.tools.tools import Tools


@asynccontextmanager
async def connected(config: ToolsConfig, metrics: ToolMetrics) -> AsyncIterator[Tools]:
    """Waits until each server was reached, or tried for ten seconds; attempts to reach the others go on."""
    servers = [McpServer(each, metrics) for each in config.servers]
    try:
        await asyncio.gather(*(server.connection.start() for server in servers))
        yield Tools(servers, config.max_calls)
    finally:
        await asyncio.gather(*(server.connection.close() for server in servers))
