"""A child process beside others."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from cluster.child import Child

SERVES = ("http.server", "0", "--bind", "127.0.0.1")


async def test_children_that_live_leave_threads_to_others() -> None:
    """Heads whose Ray is lost live on for as long as they carry replicas: what ends them needs a thread."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    children = [Child.start(f"child-{number}", SERVES, {}) for number in range(2)]
    await asyncio.sleep(0)  # each now waits for its process
    try:
        async with asyncio.timeout(10):
            await asyncio.to_thread(children[0].kill)
        assert await children[0].wait() == -9
        assert not children[1].ended
    finally:
        for child in children:
            child.kill()
            await child.wait()
