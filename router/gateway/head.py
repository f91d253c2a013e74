"""How much a request may hold beside its body: its line, its headers, what follows the last chunk; and for how long.

Nobody has said who they are before their headers are read, and the parser in C keeps whatever comes. Knows no request.
"""

import asyncio
import logging
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

logger = logging.getLogger(__name__)

MOST = 1 << 16  # bytes in a row, what was read together with the last of a body apart
PATIENCE_S = 30.0  # for headers that are not whole, and for the rest of a body that was answered before its end


class _Parser(httptools.HttpRequestParser):
    """Takes a request that asks for another protocol for one of HTTP/1.1, which it is as well. The one in C would take its body
    for the other protocol's (https://www.rfc-editor.org/rfc/rfc9110#section-7.8).
    """

    def __init__(self, protocol: "BoundedHeads") -> None:
        super().__init__(protocol)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self._protocol = protocol

    @property
    def wishes(self) -> bool:
        """Whether the request asks for another protocol."""
        return bool(self.should_upgrade()) and self.get_method() != b"CONNECT"

    def feed_data(self, data: Any) -> None:
        parser = self
        while True:
            try:
                return httptools.HttpRequestParser.feed_data(parser, data)
            except httptools.HttpParserUpgrade as wish:
                if parser.get_method() == b"CONNECT":
                    raise
                data = self._protocol.without_wish() + data[wish.args[0] :]
                parser = self._protocol.parser = _Parser(self._protocol)  # one that has read `Connection: close` reads no more


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's, which closes connections that send more, or too slowly. The log tells who sent what is no request."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser: _Parser = _Parser(self)
        self._row = 0
        self._moved = False
        self._open = False  # a request has begun whose end has not come
        self._clock: asyncio.TimerHandle | None = None  # runs while the client owes us something that nobody waits for
        self._running: RequestResponseCycle | None = None  # uvicorn's `cycle` is the last that came, which may wait behind it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        if self._running and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        self._moved = False
        super().data_received(data)
        self._row = 0 if self._moved else self._row + len(data)
        if self._row > MOST:
            self._refuse()
        elif not self._answering:
            self._watch()

    def on_message_begin(self) -> None:
        self._open = True
        super().on_message_begin()

    def without_wish(self) -> bytes:
        """The head that was read, once more."""
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        kept = (b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade")
        return b"".join((line, *kept, b"\r\n"))

    def on_headers_complete(self) -> None:
        if self.parser.wishes:
            return
        self._moved = True
        super().on_headers_complete()
        if len(self.pipeline) == 1:
            self.flow.resume_reading()  # else nobody hears that a client leaves who has asked for more
        self._rest()

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.wishes:
            return
        self._moved, self._open = True, False
        self._rest()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._open and not self._answering:
            self._watch()

    def send_400_response(self, msg: str) -> None:
        self._tell(msg)
        super().send_400_response(msg)

    @property
    def _answering(self) -> bool:
        """Whoever answers a request waits for its body, too, and ends that when it takes too long."""
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        if self._clock is None and not self.transport.is_closing():
            self._clock = self.loop.call_later(PATIENCE_S, self._overdue)

    def _rest(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _overdue(self) -> None:
        if self._open:
            self._tell(f"Not whole within {PATIENCE_S:g} seconds.")
        self.transport.close()

    def _refuse(self) -> None:
        if self._answering:
            self.transport.close()  # half an answer is on its way
        else:
            self.send_400_response(f"a request's headers may have {MOST} bytes.")

    def _tell(self, why: str) -> None:
        """It has no line among the requests, for it is none."""
        logger.info("a connection is closed: %s", why, extra={"client": self.client[0] if self.client else ""})
