"""An instance on somebody else's Ray, whose GCS keeps its tables in Redis: it is killed, started again, and carried on with."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from cluster import processes
from cluster.ray_local import environment
from tests.cluster import heads
from tests.cluster.heads import READY, pids, serves

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("redis-server") is None, reason="needs redis-server (Debian: apt-get install redis-server)"
    ),
]


@dataclass(frozen=True)
class ExternalRay:
    folder: Path
    address: str

    def process(self, name: str) -> psutil.Process:
        return next(process for process in processes.of_ray(self.folder) if process.name() == name)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def started(command: list[str], variables: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with started(command):
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def ray(redis: str) -> Iterator[ExternalRay]:
    """It has the host's own address, and demands a token that is found through the environment."""
    with heads.folder() as folder, pytest.MonkeyPatch.context() as patch:
        (folder / "auth_token").write_text("t" * 32)
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "auth_token"))
        variables = environment(heads.spec(ray_address="given")) | {"RAY_REDIS_ADDRESS": redis}
        port = free_port()
        first = ["--head", "--port", str(port), "--temp-dir", str(folder), "--include-dashboard", "false"]
        for node in (first, ["--address", f"127.0.0.1:{port}"]):
            command = [sys.executable, "-m", "ray.scripts.scripts", "start", *node, "--num-cpus", "4"]
            command += ["--object-store-memory", str(80 << 20)]
            subprocess.run(
                command, env=os.environ | variables, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        patch.delenv("RAY_AUTH_MODE")  # who joins finds out
        yield ExternalRay(folder, f"127.0.0.1:{port}")
        clients = [process for process in psutil.process_iter() if process.cmdline()[1:3] == ["-m", "ray.util.client.server"]]
        processes.kill(each for each in clients if any(word.endswith(f":{port}") for word in each.cmdline()))


def test_a_rank_that_hangs_on_another_node_is_killed_there(ray: ExternalRay) -> None:
    spec = heads.spec(instance="far", ray_address=ray.address, token="secret", cpus_per_rank=0.0)  # evenly: a replica a node
    folder = ray.folder / "far"
    folder.mkdir()
    with heads.running(spec, folder) as head:
        head.start()
        before = head.fleet()
        for replica in before.replicas:
            os.kill(pids(replica)[1], signal.SIGSTOP)
        after = head.fleet(lambda state: all(each.epoch == 2 and each.state == READY for each in state.replicas))
        assert not any(processes.alive(pid) for replica in before.replicas for pid in pids(replica))
        ranks = [pid for replica in after.replicas for pid in pids(replica)]
        head.process.terminate()
        head.process.send_signal(signal.SIGINT)  # without grace
        assert head.process.wait(60) == 0
        processes.wait([process for process in map(processes.find, ranks) if process], 30)
        assert not any(map(processes.alive, ranks))


def test_a_ray_that_demands_a_token_is_not_waited_for(ray: ExternalRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    monkeypatch.setenv("HOME", str(ray.folder))
    folder = ray.folder / "stranger"
    folder.mkdir()
    with heads.running(heads.spec(ray_address=ray.address, token="secret"), folder) as head:
        assert head.process.wait(60) == 2
        assert head.stderr.startswith(f"ossia: Ray at {ray.address} demands a token: set RAY_AUTH_TOKEN_PATH")


def test_an_instance_outlives_the_gcs_and_goes_on_with_the_next(ray: ExternalRay) -> None:
    spec = heads.spec(replicas=1, ray_address=ray.address, token="secret")
    folder = ray.folder / "head"
    folder.mkdir()
    with heads.running(spec, folder) as head:
        assert set(head.start()["pids"]) == {"controller"}
        before = head.fleet()

        gcs = ray.process("gcs_server")
        command, variables = gcs.cmdline(), gcs.environ()
        gcs.kill()
        head.event("gcs_lost")
        os.kill(pids(before.replicas[0])[1], signal.SIGKILL)
        time.sleep(2 * spec.ping_timeout_s)
        assert head.fleet().replicas[0].epoch == 1, "nothing is rebuilt without a GCS"
        with started(command, variables):
            head.event("gcs_returned")
            rebuilt = head.fleet(lambda state: state.replicas[0].epoch == 2 and state.replicas[0].state == READY)
            assert rebuilt.epoch == before.epoch, "it is still the same controller"

            os.kill(rebuilt.processes[0].pid, signal.SIGKILL)
            adopted = head.fleet(lambda state: state.epoch != rebuilt.epoch and state.replicas[0].state == READY)
            assert list(adopted.replicas) == list(rebuilt.replicas)
            assert serves(adopted.replicas[0].address)

            ranks = pids(adopted.replicas[0])
            assert head.stop() == 0
            assert not any(processes.alive(pid) for pid in [*ranks, adopted.processes[0].pid])
            assert ray.process("raylet").is_running(), "somebody else's Ray is left alone"
