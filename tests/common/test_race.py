import asyncio

import pytest

from ossia.common.race import first


class Runner:
    """Runs until it is cancelled, and says so."""

    def __init__(self) -> None:
        self.ended = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True


async def fail() -> None:
    await asyncio.sleep(0)
    raise ValueError("broken")


async def test_the_first_to_end_ends_the_others() -> None:
    runner = Runner()
    await first(runner.run(), asyncio.sleep(0))
    assert runner.ended


async def test_what_the_first_raises_is_raised() -> None:
    runner = Runner()
    with pytest.raises(ValueError, match="broken"):
        await first(runner.run(), fail())
    assert runner.ended


async def test_a_timeout_ends_them_all() -> None:
    runners = [Runner(), Runner()]
    await first(*(runner.run() for runner in runners), timeout_s=0.01)
    assert all(runner.ended for runner in runners)
