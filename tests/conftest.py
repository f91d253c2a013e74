"""What every test here may rely on."""

import gc
import os
import signal
from collections.abc import AsyncIterator

import pytest_asyncio
from hypothesis import settings

settings.register_profile("ossia", deadline=None)  # a busy machine is no failure
settings.load_profile("ossia")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for transformers: threads spin for each other while processes of tests compute
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs, and so their children, deaf to it


@pytest_asyncio.fixture(scope="session", autouse=True)
async def _collected() -> AsyncIterator[None]:
    """gRPC's garbage goes while its event loop lives: what is freed behind the loop's end has crashed the interpreter."""
    yield
    gc.collect()
