"""A gateway process's place: alone, or one of several on a port, whose parent speaks for all. Knows no HTTP."""

import asyncio
import os
import socket
from collections import deque
from typing import Protocol

import click
from prometheus_client import REGISTRY

from router.gateway.exposition import OPENMETRICS, Format
from router.gateway.line import Line, spell

# What a process says to its parent, and what that says to it; a text follows where one is named.
SERVING, MISTAKE, OWN, ASK = "serving", "mistake", "own", "ask"  # mistake and own: a text; ask: a format's media type
TELL, ALL = "tell", "all"  # all: a text


class Seat(Protocol):
    """`pid` is the process that operators know."""

    pid: int

    async def serving(self, url: str) -> None:
        """Requests may come."""

    async def metrics(self, wanted: Format) -> bytes:
        """What /metrics shows."""

    async def left(self) -> None:
        """Returns when nobody stands behind this process any more: it should stop."""

    async def close(self) -> None:
        """The last that is done."""


class Alone:
    """The only process."""

    def __init__(self) -> None:
        self.pid = os.getpid()

    async def serving(self, url: str) -> None:
        announce(url)

    async def metrics(self, wanted: Format) -> bytes:
        return wanted.encode(REGISTRY)

    async def left(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


class Shared:
    """One of several, made with its end of the socket pair that ties it to its parent."""

    def __init__(self, end: socket.socket) -> None:
        self.pid = os.getppid()
        self._end = end
        self._line: Line | None = None
        self._asked: deque[asyncio.Future[str]] = deque()
        self._left = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    async def serving(self, url: str) -> None:
        self._line = await Line.open(self._end)
        self._listening = asyncio.create_task(self._listen(self._line))
        await self._line.send(SERVING)

    async def metrics(self, wanted: Format) -> bytes:
        assert self._line, "no request comes before it serves"
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked.append(future)
        await self._line.send(ASK, wanted.media_type)
        return (await future).encode()

    async def left(self) -> None:
        await self._left.wait()

    async def close(self) -> None:
        if self._line and self._listening:
            await self._line.send(OWN, _own())  # what it counted last must not be lost
            self._listening.cancel()
            await self._line.close()

    def refuse(self, why: str) -> None:
        """It cannot start, by a mistake of the operator's. For use without an event loop."""
        self._end.sendall(spell(MISTAKE, why))

    async def _listen(self, line: Line) -> None:
        while message := await line.receive():
            word, text = message
            if word == TELL:
                await line.send(OWN, _own())
            elif word == ALL:
                answered = self._asked.popleft()
                if not answered.done():  # whoever asked may have left
                    answered.set_result(text)
        self._left.set()
        for future in self._asked:
            future.cancel()


def announce(url: str) -> None:
    """The one line on stdout."""
    click.echo(f"ossia gateway on {url}")


def _own() -> str:
    return OPENMETRICS.encode(REGISTRY).decode()
