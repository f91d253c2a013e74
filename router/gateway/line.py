"""Messages between two processes over a socket pair: a word and a text each. Knows no word."""

import asyncio
import socket
from contextlib import suppress
from typing import Self

_END = b"\0"
_MOST = 64 << 20  # bytes of a message: no metrics are so long


class Line:
    """One end, on an event loop. Neither words nor texts hold a NUL, words no space either."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> Self:
        """Takes the socket over."""
        return cls(*await asyncio.open_connection(sock=end, limit=_MOST))

    async def receive(self) -> tuple[str, str] | None:
        """The next message, None once the other side says no more or is no more."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            message = await self._reader.readuntil(_END)
            word, _, text = message[: -len(_END)].decode().partition(" ")
            return word, text
        return None

    async def send(self, word: str, text: str = "") -> None:
        """Nothing happens where the other side is no more: `receive` tells of that."""
        with suppress(ConnectionError):
            self._writer.write(spell(word, text))
            await self._writer.drain()

    def end(self) -> None:
        """Says that no more comes; the other side may go on talking."""
        with suppress(OSError):
            self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


def spell(word: str, text: str) -> bytes:
    """A message as it goes over the wire."""
    return f"{word} {text}".encode() + _END
