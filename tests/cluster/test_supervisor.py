"""The supervisor over fake heads and gateways: real processes, real signals."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from cluster import probe
from cluster.state import Folder, Instance
from cluster.stop import clean, stop

WITHIN_S = 60.0  # much, for machines that are busy with something else


class Running:
    """A supervisor in a process of its own, in a state folder of its own."""

    def __init__(self, errors: Path, grace: float = 5.0, terminal: int | None = None, **behaviour: str) -> None:
        self.port, controller_port = probe.free_port(), probe.free_port()
        self.errors = errors
        with errors.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.fakes.supervise", "test", str(self.port), str(controller_port), str(grace)],
                stdout=subprocess.PIPE,
                stderr=terminal or stream,
                text=True,
                env={**os.environ, **behaviour},
            )
        self.seen: set[int] = set()

    @property
    def state(self) -> Instance:
        instance = Folder("test").read()
        assert instance
        self.seen |= {process.pid for process in instance.processes}
        return instance

    def ready(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        self.until(lambda: len(self.state.processes) >= 9)  # head, gateway, gcs, raylet, controller, 4 ranks
        return line

    def pid(self, part: str) -> int:
        process = self.state.process(part)
        assert process, part
        return process.pid

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not condition():
            assert time.monotonic() < deadline, self.errors.read_text()
            time.sleep(0.05)

    def ended(self) -> int:
        """Its exit code, once nothing that it started is left."""
        code = self.process.wait(WITHIN_S)
        self.until(lambda: not any(map(alive, self.seen)))
        return code


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Running]]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    started: list[Running] = []

    def run(**options: object) -> Running:
        started.append(Running(tmp_path / "stderr", **options))  # type: ignore[arg-type]
        return started[-1]

    yield run
    for running in started:
        if running.process.poll() is None:  # the test failed
            running.process.kill()
            running.process.wait()
            if instance := Folder("test").read():
                clean(Folder("test"), instance)
        assert running.process.stdout
        running.process.stdout.close()
    leftovers = list((tmp_path / "state" / "ossia" / "test").glob("state.*"))
    assert leftovers == []
    assert list(tmp_path.glob("ossia-*")) == []


def test_says_the_url_once_and_removes_everything_on_ctrl_c(start: Callable[..., Running]) -> None:
    running = start()
    line = running.ready()
    assert line == f"ossia is ready: http://127.0.0.1:{running.port}/v1  (model fake, 2 replicas × 2 ranks)\n"
    assert running.state.phase == "ready"
    assert running.errors.read_text().startswith("ossia: placing 2 replicas × 2 ranks of fake\nossia: replica-0 is ready\n")
    running.process.send_signal(signal.SIGINT)
    assert running.ended() == 0
    assert running.process.stdout and running.process.stdout.read() == ""


@pytest.mark.parametrize(
    ("behaviour", "line"),
    [
        ({"FAKE_HEAD": "refuse"}, "ossia: replica-0's bundle asks for 64 CPUs; use fewer ranks"),
        ({"FAKE_HEAD": "crash"}, "ossia: RuntimeError: the head has a bug"),
        ({"FAKE_HEAD": "slow", "FAKE_GATEWAY": "refuse"}, "ossia: port in use"),
    ],
)
def test_a_start_that_fails_says_why_and_leaves_nothing(
    start: Callable[..., Running], behaviour: dict[str, str], line: str
) -> None:
    running = start(**behaviour)
    assert running.ended() == 2
    assert running.errors.read_text().splitlines() == ["ossia: placing 2 replicas × 2 ranks of fake", line]


def test_a_gateway_that_dies_comes_back(start: Callable[..., Running]) -> None:
    running = start()
    running.ready()
    first = running.pid("gateway")
    os.kill(first, signal.SIGKILL)
    running.until(lambda: running.pid("gateway") != first and probe.answers(f"http://127.0.0.1:{running.port}/ready"))
    assert "gateway was killed by SIGKILL; starting it again" in running.errors.read_text()
    running.process.terminate()
    assert running.ended() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process")
def test_a_gateway_that_cannot_be_started_again_is_tried_again(start: Callable[..., Running]) -> None:
    running = start()
    running.ready()
    first, supervisor = running.pid("gateway"), psutil.Process(running.process.pid)
    limits = supervisor.rlimit(psutil.RLIMIT_NOFILE)
    supervisor.rlimit(psutil.RLIMIT_NOFILE, (8, limits[1]))  # a process needs pipes
    os.kill(first, signal.SIGKILL)
    running.until(lambda: "gateway cannot be started (Too many open files)" in running.errors.read_text())
    supervisor.rlimit(psutil.RLIMIT_NOFILE, limits)
    running.until(lambda: running.pid("gateway") != first and probe.answers(f"http://127.0.0.1:{running.port}/ready"))
    running.process.terminate()
    assert running.ended() == 0


def test_a_head_that_cannot_be_told_anything_is_tried_again(start: Callable[..., Running]) -> None:
    running = start()
    running.ready()
    first = running.pid("head")
    (Path(running.state.folder) / "head-1.json").touch()
    os.kill(first, signal.SIGKILL)
    running.until(lambda: running.state.phase == "ready" and running.pid("head") != first)
    assert "head cannot be started (File exists); starting a new head" in running.errors.read_text()
    running.process.terminate()
    assert running.ended() == 0


def test_a_lost_gcs_is_replaced_while_the_replicas_serve(start: Callable[..., Running]) -> None:
    running = start()
    running.ready()
    before = {part: running.pid(part) for part in ("head", "ray/gcs_server", "ray/raylet", "replica-0/rank-0")}
    os.kill(before["ray/gcs_server"], signal.SIGKILL)
    os.kill(before["head"], signal.SIGUSR1)
    running.until(lambda: not any(map(alive, before.values())))
    running.until(lambda: running.state.phase == "ready" and not running.state.process("lost/head"))
    assert all(alive(running.pid(part)) for part in before)
    errors = running.errors.read_text()
    assert "Ray lost its GCS; replicas go on serving; starting a new head" in errors
    assert "every replica is ready again" in errors
    running.process.terminate()
    assert running.ended() == 0


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGKILL, "head was killed by SIGKILL"), (signal.SIGUSR2, "the raylet died, and every rank with it")],
)
def test_a_head_that_dies_comes_back(start: Callable[..., Running], number: signal.Signals, reason: str) -> None:
    running = start()
    running.ready()
    first = running.pid("head")
    os.kill(first, number)
    running.until(lambda: running.state.phase == "ready" and running.pid("head") != first)
    assert f"ossia: {reason}; starting a new head\n" in running.errors.read_text()
    running.process.terminate()
    assert running.ended() == 0


def test_a_second_ctrl_c_does_not_wait(start: Callable[..., Running]) -> None:
    running = start(grace=600.0, FAKE_GATEWAY="slow")
    running.ready()
    running.process.send_signal(signal.SIGINT)
    running.until(lambda: running.state.phase == "stopping")
    time.sleep(0.2)
    assert running.process.poll() is None
    running.process.send_signal(signal.SIGINT)
    assert running.ended() == 130


def test_killing_the_supervisor_ends_its_children_and_stop_removes_the_rest(start: Callable[..., Running]) -> None:
    running = start()
    running.ready()
    folder = Path(running.state.folder)
    running.process.kill()
    running.process.wait()
    running.until(lambda: not alive(running.pid("head")) and not alive(running.pid("gateway")))
    stop("test")
    running.ended()
    assert not folder.exists()


def test_stop_waits_for_the_supervisor(start: Callable[..., Running]) -> None:
    running = start()
    running.ready()
    stop("test")
    assert Folder("test").read() is None
    assert running.ended() == 0


def test_the_gateway_gets_its_arguments(start: Callable[..., Running]) -> None:
    running = start()
    running.ready()
    with urllib.request.urlopen(running.state.url) as response:
        assert f"--port {running.port}" in response.read().decode()
    running.process.terminate()
    assert running.ended() == 0


def test_a_terminal_shows_how_much_has_been_read(start: Callable[..., Running]) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(ours) as screen, os.fdopen(theirs) as terminal:
        running = start(FAKE_HEAD="loading", terminal=terminal.fileno())
        shown = ""
        while "25 % of 2.0 GB read" not in shown:
            shown += os.read(screen.fileno(), 1024).decode()
        assert "ossia: [#######.......................] 25 % of 2.0 GB read" in shown
        running.process.send_signal(signal.SIGINT)
        while "stopping; requests in progress" not in shown:
            shown += os.read(screen.fileno(), 1024).decode()
        assert running.ended() == 0


def test_it_stops_where_nobody_watches_any_more(start: Callable[..., Running]) -> None:
    """As behind a pipe whose other end the same Ctrl-C has ended."""
    watched, screen = os.pipe()
    running = start(terminal=screen)
    os.close(screen)
    running.ready()
    os.close(watched)
    running.process.terminate()
    assert running.ended() == 0


def test_it_starts_and_stops_where_nobody_reads_what_it_says(start: Callable[..., Running]) -> None:
    unread, screen = os.pipe()
    os.set_blocking(screen, False)
    with suppress(BlockingIOError):
        while True:
            os.write(screen, bytes(1 << 12))
    os.set_blocking(screen, True)
    running = start(terminal=screen)
    os.close(screen)
    running.ready()
    running.process.terminate()
    assert running.ended() == 0
    os.close(unread)


def test_it_serves_where_nobody_waits_for_its_url(start: Callable[..., Running]) -> None:
    running = start()
    assert running.process.stdout
    running.process.stdout.close()
    state = Folder("test")
    running.until(lambda: (instance := state.read()) is not None and instance.phase == "ready")
    running.process.terminate()
    assert running.ended() == 0


def test_under_nohup_the_end_of_the_terminal_ends_nothing(start: Callable[..., Running]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what is started inherits this
    try:
        running = start()
    finally:
        signal.signal(signal.SIGHUP, before)
    running.ready()
    running.process.send_signal(signal.SIGHUP)
    running.process.terminate()  # the first that it hears of: it is no second one
    assert running.ended() == 0
