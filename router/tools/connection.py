"""A connection to one MCP server that comes back by itself: who needs it waits for it. Knows nothing of models.

https://modelcontextprotocol.io/specification, by the `mcp` package: streamable HTTP, or a process of our own over stdio.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

import httpx2
import mcp_types as mcp
from mcp.client import Client, IncomingMessage
from mcp.shared.exceptions import MCPError

from router.backoff import Backoff
from router.tools.config import ServerConfig
from router.tools.transport import CONNECT_S, opened

logger = logging.getLogger(__name__)

STARTUP_S = 10.0  # that a gateway waits for a server
_MOST_PAGES = 32


class Connection:
    """Connected from `start` to `close`, apart from the pauses after failures. `tools` are those listed last."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._backoff = Backoff(0.2, 30.0)
        self._client: Client | None = None
        self._up = asyncio.Event()
        self._tried = asyncio.Event()
        self._look = asyncio.Event()  # at the list: it changed, or the connection may be dead
        self._keeper: asyncio.Task[None] | None = None
        self.tools: Sequence[mcp.Tool] = ()
        self.failure: str | None = "it was not reached yet"

    async def start(self) -> None:
        """Returns once the server was reached, could not be, or takes too long: then attempts go on."""
        self._keeper = asyncio.create_task(self._keep())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), STARTUP_S)

    async def close(self) -> None:
        """Ends the connection and, over stdio, the process."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def client(self) -> Client:
        """The connected client, as soon as there is one."""
        while self._client is None:
            await self._up.wait()
        return self._client

    def doubt(self, client: Client) -> None:
        """A call found the connection dead: nobody uses this client until another look at the list has come back."""
        if self._client is client:
            self._unready()
            self._look.set()

    async def _keep(self) -> None:
        while True:
            try:
                await self._connected()
                self._pause("the connection ended")
            except Exception as error:  # whatever a server or a process of somebody else's does
                self._pause(why(error))
            await asyncio.sleep(self._backoff.next_s())

    def _pause(self, reason: str) -> None:
        self.failure = "it cannot be reached"
        self._tried.set()
        logger.warning("tool server %s: %s", self._config.label, reason)

    async def _connected(self) -> None:
        """One connection, from its beginning to its end."""
        ended = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(CONNECT_S):
                client = Client(
                    opened(self._config, ended, self._look),
                    message_handler=self._heard,
                    read_timeout_seconds=CONNECT_S,
                    cache=None,
                )
                await stack.enter_async_context(client)
                await self._list(client)
            self._backoff.reset()
            try:
                await self._watch(client, ended)
            finally:  # closing it takes a while, in which calls wait for the next one
                self._unready()

    async def _watch(self, client: Client, ended: asyncio.Event) -> None:
        while not ended.is_set():
            self._ready(client)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), self._config.relist_s)
            self._look.clear()
            await self._list(client)

    def _ready(self, client: Client) -> None:
        self.failure = None
        self._client = client
        self._up.set()
        self._tried.set()

    def _unready(self) -> None:
        self._client = None
        self._up.clear()

    async def _list(self, client: Client) -> None:
        tools: list[mcp.Tool] = []
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if cursor is None:
                break
        if tools != self.tools:  # the same list stays the same object, so that who reads it reads each once
            self.tools = tools

    async def _heard(self, message: IncomingMessage) -> None:
        if isinstance(message, mcp.ToolListChangedNotification):
            self._look.set()


def why(error: BaseException) -> str:
    """What failed, for the log: nothing that a server said, and no address, which may hold a secret."""
    while isinstance(error, BaseExceptionGroup):  # a group of tasks failed: the first of them
        error = error.exceptions[0]
    if isinstance(error, MCPError):
        return f"error {error.code}"
    said = isinstance(error, OSError | httpx2.ConnectError)
    return f"{type(error).__name__}: {error}" if said else type(error).__name__
