"""The API while no replica is there: what waits, and what is refused, by a real router."""

import asyncio
from typing import Any

import openai
import pytest

from router.router import Router, RouterOptions
from tests.fakes.engine import FakeEngine
from tests.fakes.fleet import FakeFleet, entry
from tests.router.gateway.conftest import eventually

ASK: dict[str, Any] = {"model": "fake", "prompt": [1, 2, 3], "max_tokens": 4}


async def test_a_queue_with_a_bound_and_a_deadline_then_503(start: Any) -> None:
    async with FakeEngine() as engine:
        fleet = FakeFleet(entry(engine))
        router = Router(fleet, options=RouterOptions(queue_bound=1, queue_wait_s=2))
        await router.start()
        await asyncio.wait_for(router.wait_ready(), 10)
        gateway = await start(router)
        fleet.push()
        await asyncio.wait_for(router.wait_ready(False), 10)
        waiting = asyncio.create_task(gateway.client.completions.create(**ASK))
        await eventually(lambda: router.queued)
        for asked, code in ((gateway.client.completions.create(**ASK), "queue_full"), (waiting, "no_replica")):
            with pytest.raises(openai.InternalServerError) as refused:
                await asked
            assert (refused.value.status_code, refused.value.code) == (503, code)
            assert int(refused.value.response.headers["retry-after"]) >= 1
        fleet.push(entry(engine))
        assert (await gateway.client.completions.create(**ASK)).usage.completion_tokens == 4
        await router.close()
