"""The stream on the wire: headers, pings, late errors, clients that leave or read slowly."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlsplit

import grpc
import openai
import pytest

from ossia.common.vocabulary import MESSAGE, START, encode
from ossia.v1 import engine_pb2
from router.engine import EngineError
from router.gateway.errors import ApiError, Json
from router.gateway.settings import Settings
from router.gateway.sse import Dialect, EventStream
from tests.fakes.scripted import FINISH, MODEL, ScriptedEngine, answer
from tests.router.gateway.conftest import eventually

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
FAST = Settings(admission_s=0.1, ping_s=0.05)
GONE = EngineError(grpc.StatusCode.UNAVAILABLE, "gone")


async def logged(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    """The line about the one request, written after the client has its answer."""
    await eventually(lambda: any(record.name == "router.gateway.entry" for record in caplog.records))
    (record,) = [record for record in caplog.records if record.name == "router.gateway.entry"]
    return record


async def test_headers_and_end(start: Any) -> None:
    gateway = await start(ScriptedEngine(answer("Hi")))
    async with gateway.http.stream("POST", "/v1/chat/completions", json={**ASK, "stream": True}) as response:
        lines = [line async for line in response.aiter_lines() if line]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert lines[-1] == "data: [DONE]"
    assert all(json.loads(line.removeprefix("data: ")) for line in lines[:-1])


async def test_pings_while_waiting_for_admission_then_a_late_refusal(start: Any) -> None:
    engine = ScriptedEngine(None, GONE)
    gateway = await start(engine, FAST)
    async with gateway.http.stream("POST", "/v1/chat/completions", json={**ASK, "stream": True}) as response:
        assert response.status_code == 200
        lines = response.aiter_lines()
        pings = 0
        while pings < 3:
            pings += await anext(lines) == ": ping"
        engine.go.set()
        rest = [line async for line in lines if line and line != ": ping"]
    (event,) = rest
    assert json.loads(event.removeprefix("data: "))["error"]["message"] == "gone"


async def test_pings_between_tokens(start: Any) -> None:
    tokens = answer("Hello")
    engine = ScriptedEngine(tokens[:4], None, tokens[4:])
    gateway = await start(engine, Settings(admission_s=2.0, ping_s=0.05))
    async with gateway.http.stream("POST", "/v1/chat/completions", json={**ASK, "stream": True}) as response:
        seen: list[str] = []
        async for line in response.aiter_lines():
            seen.append(line)
            if seen.count(": ping") == 2:
                engine.go.set()
    assert [line for line in seen if line][-1] == "data: [DONE]"
    assert seen[0].startswith("data: ")


class Foreign(ScriptedEngine):
    """Steps all the time and shows nothing: the message is in the user's role."""

    async def generate(self, submit: engine_pb2.Submit) -> AsyncGenerator[engine_pb2.Delta, None]:
        for index, token in enumerate([START, *encode("user"), MESSAGE, *encode("word " * 40)]):
            await asyncio.sleep(0.01)
            yield engine_pb2.Delta(first_index=index, tokens=[token])
        yield engine_pb2.Delta(first_index=index + 1, finish=FINISH.FINISH_REASON_LENGTH)


async def test_pings_while_what_comes_is_not_shown(start: Any) -> None:
    gateway = await start(Foreign(), FAST)
    response = await gateway.http.post("/v1/chat/completions", json={**ASK, "stream": True})
    assert response.text.count(": ping") >= 2
    assert response.text.endswith("data: [DONE]\n\n")


async def test_the_client_sees_a_failure_in_mid_stream(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    gateway = await start(ScriptedEngine(answer("Hello")[:4], GONE))
    stream = await gateway.client.chat.completions.create(**ASK, stream=True)
    with pytest.raises(openai.APIError) as raised:
        [chunk async for chunk in stream]
    assert (raised.value.message, raised.value.code) == ("gone", "unavailable")
    record = await logged(caplog)
    assert (record.__dict__["status"], record.__dict__["error"]) == (200, "unavailable")


@pytest.mark.parametrize("finish", [FINISH.FINISH_REASON_CANCELLED, FINISH.FINISH_REASON_DEADLINE])
async def test_ends_that_nobody_asked_for_are_errors(start: Any, finish: Any) -> None:
    gateway = await start(ScriptedEngine(answer("Hello")[:4], finish=finish))
    response = await gateway.http.post("/v1/chat/completions", json=ASK)
    assert response.status_code == {FINISH.FINISH_REASON_CANCELLED: 503, FINISH.FINISH_REASON_DEADLINE: 504}[finish]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("admitted", [True, False])
async def test_a_client_that_leaves_closes_the_engines_generator(start: Any, path: str, stream: bool, admitted: bool) -> None:
    engine = ScriptedEngine(*([answer("Hello")[:4]] if admitted else []), None)
    gateway = await start(engine)
    body = {**ASK, "stream": stream} if "chat" in path else {"model": MODEL, "prompt": ["x", "y"], "stream": stream}
    asking = asyncio.create_task(gateway.http.post(path, json=body))
    await eventually(lambda: engine.running)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await asyncio.wait_for(engine.left.wait(), 5)
    await eventually(lambda: gateway.metric("ossia_gateway_requests_total", route=path, status="499"))
    assert engine.running == 0
    assert gateway.metric("ossia_gateway_in_flight_requests") == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_is_missed_although_it_asked_for_more(start: Any, stream: bool) -> None:
    engine = ScriptedEngine(answer("Hello")[:4], None)
    gateway = await start(engine, FAST)
    body = json.dumps({"model": MODEL, "prompt": "Hi", "stream": stream}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: gateway\r\nContent-Length: {len(body)}\r\n\r\n"
    url = urlsplit(gateway.url)
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(head.encode() + body)
    await eventually(lambda: engine.running)
    writer.write(b"GET /health HTTP/1.1\r\nHost: gateway\r\n\r\n")
    writer.close()
    await asyncio.wait_for(engine.left.wait(), 10)


async def test_a_slow_reader_is_not_buffered_without_bound(start: Any) -> None:
    total, delta = 6000, encode("word " * 500)  # 15 MB, more than sockets hold
    engine = ScriptedEngine(answer("")[:-1], *[delta] * total)
    gateway = await start(engine)
    async with gateway.http.stream("POST", "/v1/chat/completions", json={**ASK, "stream": True}) as response:
        parts = response.aiter_raw()
        await anext(parts)
        before = -1.0
        while before != (now := gateway.metric("ossia_gateway_output_tokens_total")):
            before = now
            await asyncio.sleep(0.2)
    assert 0 < now < total * len(delta) / 2, "the engine's deltas were taken although nobody read them"
    await asyncio.wait_for(engine.left.wait(), 5)


async def test_the_kernel_queues_little_for_a_slow_reader(start: Any) -> None:
    total, delta = 3000, encode("word " * 500)
    gateway = await start(ScriptedEngine(answer("")[:-1], *[delta] * total))
    url = urlsplit(gateway.url)
    body = json.dumps({**ASK, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        reader.setblocking(False)
        await asyncio.get_running_loop().sock_connect(reader, (url.hostname, url.port))
        await asyncio.get_running_loop().sock_sendall(reader, head.encode() + body)
        before, now = -1.0, 0.0
        while not now or before != now:
            before, now = now, gateway.metric("ossia_gateway_output_tokens_total")
            await asyncio.sleep(0.2)
    assert now < 200 * len(delta), "half a megabyte of chunks wait for a client that reads none"


async def test_a_bug_in_mid_stream_is_told_without_internals(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    engine = ScriptedEngine(answer("Hello")[:4], None)
    engine.go = None  # type: ignore[assignment]
    gateway = await start(engine)
    response = await gateway.http.post("/v1/chat/completions", json={**ASK, "stream": True}, headers={"x-request-id": "abc"})
    last = json.loads(response.text.strip().split("\n")[-1].removeprefix("data: "))
    assert last["error"]["code"] == "internal_error"
    assert "None" not in response.text
    assert [record.__dict__["request_id"] for record in caplog.records if record.levelname == "ERROR"] == ["abc"]


async def test_the_log_has_counts_and_no_contents(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    gateway = await start(ScriptedEngine(answer("a secret answer")))
    ask = {"model": MODEL, "messages": [{"role": "user", "content": "a secret question"}]}
    await gateway.http.post("/v1/chat/completions", json=ask, headers={"x-request-id": "abc"})
    record = await logged(caplog)
    assert (record.__dict__["request_id"], record.__dict__["status"]) == ("abc", 200)
    assert record.__dict__["prompt_tokens"] > 0
    assert record.__dict__["output_tokens"] == len(answer("a secret answer"))
    assert not any("secret" in str(record.__dict__) for record in caplog.records if record.name.startswith("router"))


async def test_a_dialect_has_its_own_names_error_and_pings() -> None:
    gate = asyncio.Event()

    async def chunks() -> AsyncGenerator[list[Json], None]:
        yield [{"type": "begun"}, {"type": "said", "text": "ä"}]
        await gate.wait()
        raise ApiError(503, "gone")

    def error(error: ApiError) -> Json:
        return {"type": "failed", "why": error.message}

    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))
        if message.get("body") == b"event: ping\n\n":
            gate.set()

    stream = EventStream(chunks(), 0.01, 0.01, Dialect(error, named=True, done=b"", ping=b"event: ping\n\n"))
    await stream({"type": "http", "state": {"request_id": "abc"}}, asyncio.Event().wait, send)  # type: ignore[arg-type]
    assert sent[1].decode() == 'event: begun\ndata: {"type":"begun"}\n\nevent: said\ndata: {"type":"said","text":"ä"}\n\n'
    assert b"event: ping\n\n" in sent
    assert sent[-1] == b'event: failed\ndata: {"type":"failed","why":"gone"}\n\n'
