"""How long a body may take: whoever sends it by and by is told so, and let go."""

import asyncio
import json
from typing import Any

import pytest

from router.gateway import entry
from router.gateway import head as head_
from tests.fakes.scripted import ScriptedEngine

TIMEOUT_S = 30.0
FORM = b"content-type: multipart/form-data; boundary=x\r\n"
PART = b'--x\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n'


async def _sent(
    gateway: Any, path: str, headers: bytes, size: int, first: bytes, piece: bytes, pause_s: float
) -> tuple[bytes, bytes]:
    """What the gateway answers to a body of so many bytes, a piece at a time behind the first: its head and its body."""
    url = gateway.http.base_url
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"POST %s HTTP/1.1\r\nhost: x\r\n%scontent-length: %d\r\n\r\n" % (path.encode(), headers, size))
        reading = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
        writer.write(first)
        for _ in range(len(first), size, len(piece)):
            writer.write(piece)
            await asyncio.wait([reading], timeout=pause_s)
            if reading.done():
                break
        head = await reading
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(int(length.split(b":")[1]))
        ended = asyncio.ensure_future(reader.read())
        while head.startswith(b"HTTP/1.1 408") and not ended.done():  # whoever goes on by and by is cut off
            writer.write(piece)
            await asyncio.wait([ended], timeout=pause_s)
        ended.cancel()
        await asyncio.gather(ended, return_exceptions=True)
        writer.close()
        return head, body


@pytest.mark.parametrize(
    ("path", "headers", "first"), [("/v1/completions", b"", b""), ("/v1/files", FORM, PART), ("/v1/messages", b"", b"")]
)
async def test_a_body_that_comes_by_and_by_is_refused(
    start: Any, monkeypatch: pytest.MonkeyPatch, path: str, headers: bytes, first: bytes
) -> None:
    monkeypatch.setattr(entry, "PATIENCE_S", 0.3)
    monkeypatch.setattr(head_, "PATIENCE_S", 0.3)
    gateway = await start(ScriptedEngine())
    head, body = await _sent(gateway, path, headers, 10_000, first, b" ", 0.02)
    assert head.startswith(b"HTTP/1.1 408")
    error = json.loads(body)["error"]
    assert "did not come" in error["message"]
    assert error["type"] == "invalid_request_error"
    if path != "/v1/messages":  # whose errors are Anthropic's
        assert error["code"] == "request_timeout"


async def test_what_came_fast_does_not_pay_for_what_does_not_come(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "PATIENCE_S", 0.3)
    monkeypatch.setattr(head_, "PATIENCE_S", 0.3)
    gateway = await start(ScriptedEngine())
    head, _ = await _sent(gateway, "/v1/completions", b"", 400_000, b" " * 300_000, b" ", 0.02)
    assert head.startswith(b"HTTP/1.1 408")


async def test_a_long_body_may_take_long(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "PATIENCE_S", 2.0)
    monkeypatch.setattr(entry, "LEAST", 10)
    gateway = await start(ScriptedEngine())
    head, _ = await _sent(gateway, "/v1/completions", b"", 1250, b"", b" " * 50, 0.1)
    assert head.startswith(b"HTTP/1.1 400"), "spaces are no JSON, and all of them were read"
