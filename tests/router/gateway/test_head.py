"""Headers without end: refused before they fill the memory or hold a connection; long bodies and many requests are not."""

import asyncio
import contextlib
import time

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.gateway import head
from router.gateway.head import MOST
from router.gateway.server import listen, serving

POST = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
TIMEOUT_S = 30.0


async def _size(request: Request) -> Response:
    return Response(str(len(await request.body())))


async def _sent(*pieces: bytes) -> bytes:
    """What the server answers to the pieces until it closes, and as many of the last as it takes."""
    bound = listen("127.0.0.1", 0)
    async with asyncio.timeout(TIMEOUT_S), serving(Starlette(routes=[Route("/", _size, methods=["POST"])]), bound):
        reader, writer = await asyncio.open_connection(*bound.getsockname())
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
        finally:
            writer.close()


async def _endless(start: bytes, piece: bytes) -> int:
    """Bytes that the server took."""
    bound = listen("127.0.0.1", 0)
    async with asyncio.timeout(TIMEOUT_S), serving(Starlette(routes=[Route("/", _size, methods=["POST"])]), bound):
        _, writer = await asyncio.open_connection(*bound.getsockname())
        writer.write(start)
        taken = 0
        try:
            while taken < 1 << 28:
                writer.write(piece)
                await writer.drain()
                taken += len(piece)
        except ConnectionError:
            return taken
        finally:
            writer.close()
        return taken


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"POST /", b"a"),
        (b"POST / HTTP/1.1\r\nx: ", b"a"),
        (b"POST / HTTP/1.1\r\n", b"x: a\r\n"),
        (POST + b"1\r\na\r\n0\r\nx: ", b"a"),
        (POST + b"1;", b"a"),
    ],
)
async def test_what_has_no_end_is_cut(start: bytes, piece: bytes) -> None:
    assert await _endless(start, piece * (MOST // len(piece))) < 1 << 26  # the kernels hold some of it


async def test_headers_up_to_the_limit_are_read_and_longer_ones_refused() -> None:
    head = b"POST / HTTP/1.1\r\nconnection: close\r\ncontent-length: 2\r\nx: ".ljust(MOST, b"a")
    assert (await _sent(head, b"\r\n\r\n", b"ab")).endswith(b"\r\n\r\n2")
    assert (await _sent(head, b"a")).startswith(b"HTTP/1.1 400")


async def test_bodies_of_many_chunks_and_requests_in_a_row_have_no_limit() -> None:
    chunks = [b"1\r\na\r\n" * 1000] * (MOST // 1000)
    last = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\na"
    answer = await _sent(*[POST, *chunks, b"0\r\n\r\n"] * 2, last)
    assert answer.count(f"\r\n\r\n{len(chunks) * 1000}".encode()) == 2
    assert answer.endswith(b"\r\n\r\n1")


WISH = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAA\r\n"


@pytest.mark.parametrize("size", [1, 100, 1 << 12])
async def test_who_would_rather_speak_http2_is_answered_in_this_protocol(size: int) -> None:
    """As Java's client asks, without TLS."""
    body = b"content-length: 3\r\n\r\nabc"
    first = b"POST / HTTP/1.1\r\nhost: x\r\n" + WISH + body
    chunked = POST[:-2] + WISH + b"\r\n2\r\nab\r\n0\r\n\r\n"
    last = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + WISH + body
    row = first + chunked + last
    answer = await _sent(*[row[begin : begin + size] for begin in range(0, len(row), size)])
    assert [part[:1] for part in answer.split(b"\r\n\r\n")[1:]] == [b"3", b"2", b"3"]


async def _held(start: bytes, piece: bytes) -> tuple[bytes, float]:
    """What the server says to one who sends a piece now and then, and how many seconds it listened."""
    bound = listen("127.0.0.1", 0)
    async with asyncio.timeout(TIMEOUT_S), serving(Starlette(routes=[Route("/", _greet, methods=["POST"])]), bound):
        reader, writer = await asyncio.open_connection(*bound.getsockname())
        began = time.monotonic()
        writer.write(start)
        reading = asyncio.ensure_future(_all(reader))
        while not reading.done():
            writer.write(piece)
            await asyncio.wait([reading], timeout=0.02)
        writer.close()
        return reading.result(), time.monotonic() - began


async def _all(reader: asyncio.StreamReader) -> bytes:
    said = b""
    with contextlib.suppress(ConnectionError):  # a server that closes while more is sent resets the connection
        while data := await reader.read(1 << 16):
            said += data
    return said


async def _greet(request: Request) -> Response:
    """Without a look at the body."""
    return Response("hello")


@pytest.mark.parametrize(
    ("start", "piece", "answered"),
    [
        (b"", b"", False),
        (b"", b"\r\n", False),
        (b"POST / HTTP/1.1\r\n", b"x: a\r\n", False),
        (b"POST / HTTP/1.1\r\nx: ", b"a", False),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n", b"a", True),
        (POST + b"1\r\na\r\n0\r\n", b"x: a\r\n", True),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", b"\r\n", True),
    ],
)
async def test_what_comes_by_and_by_is_cut(monkeypatch: pytest.MonkeyPatch, start: bytes, piece: bytes, answered: bool) -> None:
    monkeypatch.setattr(head, "PATIENCE_S", 0.3)
    said, seconds = await _held(start, piece)
    assert said.endswith(b"hello") or not answered
    assert answered or not said
    assert 0.25 < seconds < 5


async def test_a_connection_that_is_idle_after_an_answer_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "PATIENCE_S", 0.2)
    bound = listen("127.0.0.1", 0)
    async with asyncio.timeout(TIMEOUT_S), serving(Starlette(routes=[Route("/", _size, methods=["POST"])]), bound):
        reader, writer = await asyncio.open_connection(*bound.getsockname())
        for _ in range(2):
            writer.write(POST + b"1\r\na\r\n0\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n1")).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.4)
        writer.close()


async def test_the_log_tells_who_sent_what_is_no_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(head, "PATIENCE_S", 0.2)
    caplog.set_level("INFO", "router.gateway.head")
    for start in (b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nx: ".ljust(MOST + 1, b"a"), b"POST / HTTP/1.1\r\n"):
        await _sent(start)
    told = [record for record in caplog.records if record.name == "router.gateway.head"]
    assert [vars(record)["client"] for record in told] == ["127.0.0.1"] * 3
    assert [record.getMessage().split(": ")[1].split()[0] for record in told] == ["Invalid", "a", "Not"]
