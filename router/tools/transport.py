"""The way to one tool server: a process of our own over stdio, or HTTP with the operator's headers. Knows no calls."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx2
from anyio.abc import ObjectSendStream
from mcp.client import Transport
from mcp.client._transport import ReadStream, TransportStreams
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from router.tools.config import ServerConfig

CONNECT_S = 30.0  # that a server has to come up
_READ_S = 15.0  # beyond what a call may take
_GOODBYE_S = 2.0  # that a server has to be told that its session ends


@asynccontextmanager
async def opened(config: ServerConfig, ended: asyncio.Event, look: asyncio.Event) -> AsyncIterator[TransportStreams]:
    """The way to a server; sets both events when the server's side of it ends, which a client tells its next caller alone."""
    async with _transport(config) as (read, write), anyio.create_task_group() as group:
        sender, receiver = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        group.start_soon(_pump, read, sender, ended, look)
        with receiver:
            yield receiver, write
        group.cancel_scope.cancel()


async def _pump(
    read: ReadStream[SessionMessage | Exception],
    sender: ObjectSendStream[SessionMessage | Exception],
    ended: asyncio.Event,
    look: asyncio.Event,
) -> None:
    async with sender:
        with contextlib.suppress(anyio.BrokenResourceError):  # nobody listens any more
            async for message in read:
                await sender.send(message)
    ended.set()
    look.set()


def _transport(config: ServerConfig) -> Transport:
    if config.url is not None:
        return _http(config)
    command, *arguments = config.command
    return stdio_client(StdioServerParameters(command=command, args=arguments, env=dict(config.env)))


@asynccontextmanager
async def _http(config: ServerConfig) -> AsyncIterator[TransportStreams]:
    assert config.url is not None
    headers = dict(config.headers)
    if config.token_file is not None:
        headers["authorization"] = f"Bearer {(await anyio.Path(config.token_file).read_text()).strip()}"
    timeout = httpx2.Timeout(CONNECT_S, read=config.timeout_s + _READ_S)
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout, event_hooks={"request": [_hurry]}) as http,
        streamable_http_client(config.url, http_client=http) as streams,
    ):
        yield streams


async def _hurry(request: httpx2.Request) -> None:
    """Nobody waits for the answer to a goodbye, but whoever closes the connection and whoever needs the next one."""
    if request.method == "DELETE":
        request.extensions["timeout"] = httpx2.Timeout(_GOODBYE_S).as_dict()
