"""A head for tests, run by the supervisor in place of cluster.head: its Ray and its ranks are processes that sleep.

FAKE_HEAD=refuse ends it with a user's error, FAKE_HEAD=crash with an exception, FAKE_HEAD=slow never becomes ready,
FAKE_HEAD=loading neither: its ranks say that each has read 125 MB.
SIGUSR1 makes it lose its GCS, SIGUSR2 its raylet. What it was told lies beside its spec as it was read.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from google.protobuf.json_format import MessageToJson
from prometheus_client import CollectorRegistry

from ossia.common import metrics
from ossia.v1 import fleet_pb2
from workers.metrics import Metrics

SLEEP = (sys.executable, "-c", "import time; time.sleep(3600)")


def main() -> None:
    spec = json.loads(Path(sys.argv[sys.argv.index("--spec") + 1]).read_text())
    match os.environ.get("FAKE_HEAD"):
        case "refuse":
            print("ossia: replica-0's bundle asks for 64 CPUs; use fewer ranks", file=sys.stderr)
            sys.exit(2)
        case "crash":
            raise RuntimeError("the head has a bug")
    signals: SimpleQueue[int] = SimpleQueue()  # an exception in the midst of Popen would lose the process that it has started
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, _: signals.put(number))
    children: list[subprocess.Popen[bytes]] = []
    try:
        run(spec, children)
        while (received := signals.get()) == signal.SIGUSR1:
            say(event="gcs_lost")
        if received == signal.SIGUSR2:
            lose_raylet()
    finally:
        for child in children:
            child.kill()


def run(spec: dict[str, Any], children: list[subprocess.Popen[bytes]]) -> None:
    """Adds what a head starts to `children`: all, or nothing where it joins the Ray of the head before."""

    def start(*command: str) -> subprocess.Popen[bytes]:
        children.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        return children[-1]

    if spec["ray_address"]:
        say(event="controller", address=f"127.0.0.1:{spec['controller_port']}", ray_address=spec["ray_address"], pids={})
        say(event="ready")
        return
    Path(spec["ray_folder"]).mkdir(exist_ok=True)
    gcs, raylet = start(*SLEEP), start(*SLEEP)
    ranks = [[start(*SLEEP) for _ in range(spec["runner"]["layout"]["ranks"])] for _ in range(spec["replicas"])]
    for survivor in spec["survivors"]:
        for pid in survivor["pids"]:
            os.kill(pid, signal.SIGKILL)
    loading = os.environ.get("FAKE_HEAD") == "loading"
    state = fleet(ranks, read_125_mb() if loading else None)
    for endpoint in spec["processes"]:
        state.processes.add(**endpoint)
    start(sys.executable, "-m", "tests.fakes.controller", str(spec["controller_port"]), MessageToJson(state))
    say(
        event="controller",
        address=f"127.0.0.1:{spec['controller_port']}",
        ray_address="127.0.0.1:1",
        pids={"gcs_server": gcs.pid, "raylet": raylet.pid},
    )
    if os.environ.get("FAKE_HEAD") not in ("slow", "loading"):
        say(event="ready")


def fleet(ranks: list[list[subprocess.Popen[bytes]]], loading: str | None) -> fleet_pb2.FleetState:
    """`loading` is where the metrics of ranks are that load; None: they are ready."""
    word = fleet_pb2.REPLICA_STATE_STARTING if loading else fleet_pb2.REPLICA_STATE_READY
    state = fleet_pb2.FleetState(epoch=1, version=1)
    for number, replica in enumerate(ranks):
        added = state.replicas.add(name=f"replica-{number}", epoch=1, state=word, address="" if loading else "127.0.0.1:1")
        for rank, process in enumerate(replica):
            added.ranks.add(rank=rank, pid=process.pid, node="here", metrics_address=loading or "127.0.0.1:1")
    return state


def read_125_mb() -> str:
    registry = CollectorRegistry()
    Metrics(registry).read(125_000_000)
    return metrics.serve("127.0.0.1", registry=registry)


def lose_raylet() -> None:
    say(event="error", message="the raylet died, and every rank with it")
    print("[state-dump] what Ray says of it", file=sys.stderr)
    sys.exit(1)


def say(**event: object) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    main()
