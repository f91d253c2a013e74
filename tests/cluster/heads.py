"""Runs `python -m cluster.head` for tests: its events, the fleet it keeps, the processes it leaves."""

import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2

from cluster import processes
from cluster.spec import HeadSpec
from ossia.v1 import fleet_pb2, fleet_pb2_grpc
from workers.model.layout import Layout
from workers.runner.spec import RunnerSpec

READY = fleet_pb2.REPLICA_STATE_READY
FAILED = fleet_pb2.REPLICA_STATE_FAILED
Condition = Callable[[fleet_pb2.FleetState], bool]


def spec(**changes: Any) -> HeadSpec:
    """Two replicas of two ranks without a model."""
    fields: dict[str, Any] = {
        "instance": "test",
        "replicas": 2,
        "runner": RunnerSpec("fine", Layout(2)),
        "model_names": ("model",),
        "log_folder": "",
        "cpus_per_rank": 0.25,
        "ping_timeout_s": 4.0,
        "placement_timeout_s": 10.0,
        "start_timeout_s": 60.0,
        "grace_s": 2.0,
        "shard": "tests.fakes.shard:Shard",
    }
    return HeadSpec(**fields | changes)


class Head:
    """A running head."""

    def __init__(self, spec: HeadSpec, folder: Path, module: str = "cluster.head") -> None:
        self.spec = replace(spec, log_folder=str(folder / "logs"), ray_folder=spec.ray_folder or str(folder))
        file = folder / f"spec-{time.monotonic_ns()}.json"
        file.write_text(json.dumps(asdict(self.spec)))
        self._stderr = folder / "stderr"
        command = [sys.executable, "-m", module, "--spec", str(file)]
        with self._stderr.open("a") as stderr:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True)
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def event(self, name: str, timeout_s: float = 60) -> dict[str, Any]:
        """The next event of this name; the others up to it are dropped."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                event = self._events.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {name} within {timeout_s} s; stderr: {self.stderr}") from None
            if event["event"] == name:
                return event

    def start(self) -> dict[str, Any]:
        """Waits until it is ready; returns the controller's event."""
        controller = self.event("controller")
        self.address = str(controller["address"])
        self.event("ready")
        return controller

    def fleet(self, until: Condition = lambda _: True, timeout_s: float = 90) -> fleet_pb2.FleetState:
        """The first state of which `until` holds."""
        state, deadline = None, time.monotonic() + timeout_s
        while time.monotonic() < deadline:  # a stream may break with the controller that just died
            for state in self.states(deadline - time.monotonic()):
                if until(state):
                    return state
        raise AssertionError(f"not reached within {timeout_s} s; last was {state}")

    def states(self, timeout_s: float) -> Iterator[fleet_pb2.FleetState]:
        """Ends after `timeout_s`, or when the controller is gone."""
        metadata = (("authorization", f"Bearer {self.spec.token}"),)
        with grpc.insecure_channel(self.address) as channel:
            try:
                yield from fleet_pb2_grpc.FleetStub(channel).Watch(
                    fleet_pb2.WatchRequest(), timeout=timeout_s, wait_for_ready=True, metadata=metadata
                )
            except grpc.RpcError:
                return

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(self.spec.grace_s + 30)

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                self._events.put(json.loads(line))


@contextmanager
def folder() -> Iterator[Path]:
    """A short one, for Ray's sockets. At the end nothing may run that belongs to a Ray in it."""
    path = Path(tempfile.mkdtemp(prefix="ossia-", dir="/tmp"))
    try:
        yield path
    finally:
        processes.kill(processes.of_ray(path))
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def running(spec: HeadSpec, folder: Path, module: str = "cluster.head") -> Iterator[Head]:
    """A head, killed at the end where the test has not stopped it."""
    head = Head(spec, folder, module)
    try:
        yield head
    finally:
        if head.process.poll() is None:
            started = processes.below(psutil.Process(head.process.pid))
            head.process.kill()
            head.process.wait()
            processes.kill(started)
        head.reader.join()


def pids(replica: fleet_pb2.Replica) -> list[int]:
    return [rank.pid for rank in replica.ranks]


def serves(address: str) -> bool:
    """The leader at host:port answers a health check."""
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        try:
            return bool(check(health_pb2.HealthCheckRequest(), timeout=5).status == health_pb2.HealthCheckResponse.SERVING)
        except grpc.RpcError:
            return False
