"""The operator's tool servers, connected for as long as the gateway runs. Knows no requests."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from router.tools.config import ToolsConfig
from router.tools.metrics import ToolMetrics
from router.tools.tools import Tools

if TYPE_CHECKING:
    from router.tools.server import McpServer


@asynccontextmanager
async def connected(config: ToolsConfig, metrics: ToolMetrics) -> AsyncIterator[Tools]:
    """Waits until each server was reached, or tried for ten seconds; attempts to reach the others go on."""
    servers = _servers(config, metrics) if config.servers else []
    try:
        await asyncio.gather(*(server.connection.start() for server in servers))
        yield Tools(servers, config.max_calls)
    finally:
        await asyncio.gather(*(server.connection.close() for server in servers))


def _servers(config: ToolsConfig, metrics: ToolMetrics) -> "list[McpServer]":
    from router.tools.server import McpServer  # half a second and 30 MB, which gateways without tools need not

    logging.getLogger("mcp").setLevel(logging.CRITICAL)  # it quotes what servers send; their failures are logged here
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    return [McpServer(each, metrics) for each in config.servers]
