"""Events at even times, for whoever measures what proxies do to streams."""

import json
import time
from typing import Any

import pytest

from router.gateway.settings import Settings
from tests.fakes.scripted import ScriptedEngine

EVERY_S = 0.1
COUNT = 5


async def test_events_come_at_the_times_that_they_say(start: Any) -> None:
    gateway = await start(ScriptedEngine(), Settings(beat_s=EVERY_S))
    came = []
    async with gateway.http.stream("GET", f"/v1/stream_test?events={COUNT}") as response:
        async for line in response.aiter_lines():
            if line:
                came.append((time.perf_counter(), line.removeprefix("data: ")))
    assert response.headers["x-accel-buffering"] == "no"
    *events, (_, done) = came
    assert done == "[DONE]"
    told = [json.loads(event) for _, event in events]
    assert [event["index"] for event in told] == list(range(COUNT))
    assert all(event["sent_ms"] >= event["index"] * EVERY_S * 1000 - 1 for event in told)
    delays = [at - event["sent_ms"] / 1000 for (at, _), event in zip(events, told, strict=True)]
    assert max(delays) - min(delays) < EVERY_S, "they were held back"


@pytest.mark.parametrize("asked", ["events=0", "events=301", "events=x", "seconds=5"])
async def test_it_is_no_amplifier(start: Any, asked: str) -> None:
    gateway = await start(ScriptedEngine())
    refused = await gateway.http.get(f"/v1/stream_test?{asked}")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, asked.partition("=")[0])
