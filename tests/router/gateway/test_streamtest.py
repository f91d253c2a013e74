"""Events at even times, for whoever measures what proxies do to streams."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from router.access.keys import digest, make
from router.gateway.app import create_app
from router.gateway.server import listen, serving
from router.gateway.settings import Settings
from router.store.keys import StoredKey
from router.store.store import Store
from tests.fakes.scripted import ScriptedEngine
from tests.router.access.conftest import guarded, store
from tests.router.gateway.conftest import eventually

__all__ = ["guarded", "store"]

EVERY_S = 0.02
COUNT = 5
LONG_S = 3600.0


async def test_events_come_no_earlier_than_they_should_and_say_when(start: Any) -> None:
    gateway = await start(ScriptedEngine(), Settings(beat_s=EVERY_S))
    answered = await gateway.http.get(f"/v1/stream_test?events={COUNT}")
    assert answered.headers["x-accel-buffering"] == "no"
    *events, done = (event.removeprefix("data: ") for event in answered.text.split("\n\n") if event)
    assert done == "[DONE]"
    told = [json.loads(event) for event in events]
    assert [event["index"] for event in told] == list(range(COUNT))
    assert all(event["sent_ms"] >= event["index"] * EVERY_S * 1000 - 1 for event in told)


async def test_the_first_comes_at_once_and_whoever_leaves_ends_it(start: Any) -> None:
    gateway = await start(ScriptedEngine(), Settings(beat_s=LONG_S))
    async with asyncio.timeout(10), gateway.http.stream("GET", "/v1/stream_test") as response:
        lines = response.aiter_lines()
        assert json.loads((await anext(lines)).removeprefix("data: "))["index"] == 0
        assert gateway.metric("ossia_gateway_in_flight_requests") == 1
    await eventually(lambda: not gateway.metric("ossia_gateway_in_flight_requests"))


async def test_a_gateway_that_stops_does_not_wait_for_it() -> None:
    app, bound = create_app(ScriptedEngine(), Settings(beat_s=EVERY_S)), listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1/stream_test?events=300"
    async with serving(app, bound), httpx.AsyncClient() as http, http.stream("GET", url) as response:
        lines = response.aiter_lines()
        await anext(lines)
        app.state.admission.close()
        rest = [line async for line in lines if line]
        await asyncio.wait_for(app.state.admission.drained(), 10)
    assert len(rest) < 300 and json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "unavailable"


async def test_it_counts_against_a_keys_limits(guarded: Any, store: Store) -> None:
    key = make()
    await store.keys.add(StoredKey("key_1", digest(key), "acme", "test", None, {"concurrent_requests": 1}))
    gateway = await guarded(ScriptedEngine(), keys=True)
    gateway.http.headers["authorization"] = f"Bearer {key}"
    async with gateway.http.stream("GET", "/v1/stream_test") as response:
        lines = response.aiter_lines()
        await anext(lines)
        refused = await gateway.http.get("/v1/stream_test")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")


@pytest.mark.parametrize("asked", ["events=0", "events=301", "events=x", "seconds=5"])
async def test_it_is_no_amplifier(start: Any, asked: str) -> None:
    gateway = await start(ScriptedEngine())
    refused = await gateway.http.get(f"/v1/stream_test?{asked}")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, asked.partition("=")[0])
