"""The benchmarks' client: what breaks or is refused is told, and a connection that is gone is not used again."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from benchmarks.gateway.load import Pool

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-long: " + b"x" * 2000 + b"\r\n\r\n"
EVENT = b'20\r\ndata: {"completion_tokens": 3}\n\n\r\n'
REST = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
GONE: list[bytes] = []
"""The connection is closed."""


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    """Of a server that answers requests by these, one after the other."""
    replies = iter([[HEAD, EVENT, REST], [REFUSAL], [HEAD, EVENT], [HEAD, EVENT + REST], GONE, [HEAD, EVENT, REST]])
    leave = iter([True, False, True, False, True, False])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            for piece in next(replies):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)  # so that each piece comes by itself
            if next(leave):
                break
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        pool = Pool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        yield pool
        await pool.close()


async def test_what_breaks_is_told_and_the_next_request_is_fine(pool: Pool) -> None:
    first = await pool.send(b"ask\n")
    assert (first.tokens, first.events) == (3, 1) and first.first_s > 0
    await pool.free[0].closed.wait()
    with pytest.raises(ConnectionError, match="503"):
        await pool.send(b"ask\n")
    with pytest.raises(ConnectionError, match="closed"):
        await pool.send(b"ask\n")
    assert (await pool.send(b"ask\n")).tokens == 3
    assert (await pool.send(b"ask\n")).tokens == 3, "on a new connection: the server closes the old one as it is used"
