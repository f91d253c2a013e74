"""`ossia replica` over a fake head, and the line by which a child hangs on its parent."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest


@pytest.fixture
def replica(model: Path, request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[str]"]:
    """A replica whose head behaves as the test's parameter says."""
    command = [sys.executable, "-m", "tests.fakes.replica", "replica", str(model), "--port", "0", "--grace", "1"]
    env = {**os.environ, "FAKE_HEAD": getattr(request, "param", "")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        yield process
        process.kill()


def ready(process: "subprocess.Popen[str]") -> psutil.Process:
    """The head, once the replica is ready."""
    assert process.stderr
    for line in process.stderr:
        if line == "ossia: replica-0 is ready\n":
            return psutil.Process(process.pid).children()[0]
    raise AssertionError(process.wait())


def test_it_says_when_it_is_ready_and_stops_in_order(replica: "subprocess.Popen[str]") -> None:
    head = ready(replica)
    everything = [head, *head.children(recursive=True)]
    replica.terminate()
    assert replica.wait(60) == 0
    assert psutil.wait_procs(everything, timeout=30)[1] == []


def test_a_lost_gcs_ends_it(replica: "subprocess.Popen[str]") -> None:
    head = ready(replica)
    head.send_signal(signal.SIGUSR1)
    assert replica.wait(60) == 1
    assert replica.stderr
    assert "ossia: Ray lost its GCS: this replica ends, to be started again\n" in replica.stderr.read()


@pytest.mark.parametrize("replica", ["refuse"], indirect=True)
def test_what_the_head_refuses_is_refused(replica: "subprocess.Popen[str]") -> None:
    assert replica.wait(60) == 2
    assert replica.stderr
    first, *_, last = replica.stderr.read().splitlines()
    assert re.fullmatch(r"ossia: its KV cache holds \d+ tokens in full layers and \d+ in sliding ones", first)
    assert last == "ossia: replica-0's bundle asks for 64 CPUs; use fewer ranks"


def test_beyond_loopback_it_demands_a_token(model: Path) -> None:
    command = [sys.executable, "-m", "cluster.cli", "replica", str(model), "--host", "0.0.0.0"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OSSIA_TOKEN": ""})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ossia: listening on 0.0.0.0 needs the cluster's token")


@pytest.mark.parametrize(("handler", "code"), [("SIG_DFL", -signal.SIGTERM), ("SIG_IGN", -signal.SIGKILL)])
def test_a_child_ends_with_its_parent_even_if_it_ignores_sigterm(handler: str, code: int) -> None:
    script = f"""
import signal, time
from cluster import lifeline
signal.signal(signal.SIGTERM, signal.{handler})
lifeline.watch(0.2)
print("ready", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdin
        assert child.stdout.readline() == b"ready\n"
        child.stdin.close()
        assert child.wait(60) == code
