"""A client that costs little: chats over raw sockets, whose events are counted and timed, not understood."""

import asyncio
import json
import random
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_USAGE = re.compile(rb'"completion_tokens": ?(\d+)')
_FINE = b"HTTP/1.1 200 "
_EVENT = b"data: {"
_END = b"data: [DONE]"
_LAST_CHUNK = b"0\r\n\r\n"  # of HTTP's chunked encoding
_TAIL = 1024  # bytes that the last usage is looked for in
_MOST_S = 60.0  # of a request, which has failed then


@dataclass
class Seen:
    """What one request brought; seconds and tokens. `tokens` is 0 where it failed."""

    first_s: float = 0.0  # from the request to the first event
    events: int = 0
    tokens: int = 0
    bytes: int = 0
    error: str = ""


@dataclass
class Ask:
    """One kind of request, sent to `url` (a base without /v1)."""

    url: str
    model: str
    prompt_words: int
    output_tokens: int
    key: str = "any"
    source: random.Random = field(default_factory=lambda: random.Random(0))

    def body(self) -> bytes:
        """JSON, different each time."""
        words = " ".join(self.source.choice(WORDS) for _ in range(self.prompt_words))
        count = self.output_tokens
        body: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": "user", "content": words}],
            **({"min_tokens": count, "max_tokens": count} if count else {}),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return json.dumps(body).encode()

    def request(self) -> bytes:
        """The same as HTTP."""
        data = self.body()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {urlsplit(self.url).netloc}\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        return head.encode() + data


WORDS = (
    "river",
    "that",
    "comes",
    "down",
    "from",
    "glaciers",
    "carries",
    "less",
    "water",
    "when",
    "their",
    "snow",
    "has",
    "gone",
)


class Connection(asyncio.Protocol):
    """One connection, kept alive, one request at a time."""

    def __init__(self) -> None:
        self._seen = Seen()
        self._began = 0.0
        self._tail = b""
        self._done: asyncio.Future[Seen] | None = None
        self._transport: asyncio.Transport | None = None
        self.closed = asyncio.Event()

    async def send(self, request: bytes) -> Seen:
        """Returns when the stream has ended. Raises OSError where it broke, was refused or took too long,
        ConnectionResetError where nothing came.
        """
        assert self._transport
        self._seen, self._tail = Seen(), b""
        self._done = asyncio.get_running_loop().create_future()
        self._began = time.perf_counter()
        self._transport.write(request)
        async with asyncio.timeout(_MOST_S):
            return await self._done

    async def close(self) -> None:
        assert self._transport
        self._transport.close()
        await self.closed.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        seen, text = self._seen, self._tail + data
        if not seen.bytes and not data.startswith(_FINE):
            self._settle(ConnectionError(data[:_TAIL].decode(errors="replace")))
        if events := text.count(_EVENT) - self._tail.count(_EVENT):
            seen.first_s = seen.first_s or time.perf_counter() - self._began
            seen.events += events
        seen.bytes += len(data)
        self._tail = text[-_TAIL:]
        if _END in self._tail and text.endswith(_LAST_CHUNK):
            usage = _USAGE.search(self._tail)
            seen.tokens = int(usage[1]) if usage else 0
            self._settle(None)

    def connection_lost(self, error: Exception | None) -> None:
        kind = ConnectionError if self._seen.bytes else ConnectionResetError
        self._settle(kind("the server closed the connection"))
        self.closed.set()

    def _settle(self, error: Exception | None) -> None:
        if self._done and not self._done.done():
            if error:
                self._done.set_exception(error)
            else:
                self._done.set_result(self._seen)


class Pool:
    """Connections to one server, as many as are in use at once."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "", address.port or 80
        self.free: list[Connection] = []

    async def send(self, request: bytes) -> Seen:
        """As Connection.send; a connection is made before the clock starts. Servers close those that nobody uses, maybe just
        now: then the request is sent again (RFC 9112, 9.3.1).
        """
        if connection := self._idle():
            with suppress(ConnectionResetError):
                return await self._ask(connection, request)
        return await self._ask(await self._connect(), request)

    async def _ask(self, connection: Connection, request: bytes) -> Seen:
        try:
            seen = await connection.send(request)
        except OSError:
            await connection.close()
            raise
        self.free.append(connection)
        return seen

    def _idle(self) -> Connection | None:
        while self.free:
            connection = self.free.pop()
            if not connection.closed.is_set():
                return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port)
        return connection

    async def close(self) -> None:
        await asyncio.gather(*(connection.close() for connection in self.free))
