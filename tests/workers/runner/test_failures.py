"""A rank that is killed or stopped makes every other rank raise within the timeout; nobody hangs."""

import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.workers.runner.gang import Gang
from tests.workers.tiny import TINY, write
from workers.engine.plan import Plan
from workers.model.layout import Layout
from workers.runner.runner import TorchRunner
from workers.runner.spec import RunnerSpec

TIMEOUT = 3.0


def beat(runner: TorchRunner, pipe: Connection) -> None:
    """Idle steps for ever, as fast as they go; says when the first is done."""
    runner.execute(Plan.idle())
    pipe.send("beating")
    while True:
        runner.execute(Plan.idle())


@pytest.mark.parametrize(
    ("number", "victim"), [(signal.SIGKILL, 2), (signal.SIGSTOP, 2), (signal.SIGSTOP, 0)], ids=["killed", "stopped", "leader"]
)
def test_everyone_else_raises(number: signal.Signals, victim: int, tmp_path: Path) -> None:
    spec = RunnerSpec(str(write(tmp_path, TINY)), Layout(4), kv_memory=8 << 20, max_context=64, collective_timeout_s=TIMEOUT)
    with Gang(spec, beat) as gang:
        assert gang.receive(0) == "beating"
        started = time.monotonic()
        os.kill(gang.processes[victim].pid or 0, number)
        outcomes = [gang.receive(rank, 5 * TIMEOUT) for rank in range(4) if rank != victim]
        assert time.monotonic() - started < 3 * TIMEOUT
    assert all(kind == "raised" and message for kind, message in outcomes), outcomes
