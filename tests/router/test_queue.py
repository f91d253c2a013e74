"""The queue's order, bound and deadline."""

import asyncio

import grpc
import pytest

from router.engine import EngineError
from router.queue import Queue


async def test_order() -> None:
    queue, order = Queue(10), []

    async def enter(name: str, priority: int = 0, resumed: bool = False) -> None:
        await queue.wait(10, priority=priority, resumed=resumed)
        order.append(name)

    tasks = [
        asyncio.create_task(coroutine)
        for coroutine in (enter("a"), enter("b"), enter("high", 5), enter("low", -1), enter("resumed", resumed=True))
    ]
    await asyncio.sleep(0)
    queue.wake()
    await asyncio.gather(*tasks)
    assert order == ["resumed", "high", "a", "b", "low"]


async def test_bound_is_for_newcomers() -> None:
    depths: list[int] = []
    queue = Queue(1, depths.append)
    first = asyncio.create_task(queue.wait(10, priority=0, resumed=False))
    await asyncio.sleep(0)
    with pytest.raises(EngineError) as caught:
        await queue.wait(10, priority=9, resumed=False)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL")
    second = asyncio.create_task(queue.wait(10, priority=0, resumed=True))
    await asyncio.sleep(0)
    assert len(queue) == 2
    queue.wake()
    await asyncio.gather(first, second)
    assert (max(depths), depths[-1]) == (2, 0)


@pytest.mark.parametrize("wait_s", [0.01, 0, -5])
async def test_deadline(wait_s: float) -> None:
    queue = Queue(1)
    with pytest.raises(EngineError) as caught:
        await queue.wait(wait_s, priority=0, resumed=False)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_REPLICA")
    assert caught.value.retry_after_s and len(queue) == 0
