"""`ossia replica`: one gang inside this host on a Ray of its own, as a pod runs it; a pod that loses it is started again."""

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cluster import probe, serve, token, watch
from cluster.child import Child
from cluster.config import ServeConfig
from cluster.loading import Loading
from cluster.logs import POLL_S, Logs
from cluster.progress import Progress
from cluster.spec import HeadSpec
from ossia.common import logs, metrics, wire
from ossia.common.errors import UserError
from ossia.common.metrics import Endpoint
from ossia.v1 import fleet_pb2


@dataclass(frozen=True)
class ReplicaConfig:
    """`serve` says what the gang is; its gateway's host and port are the leader's here."""

    serve: ServeConfig
    token_file: Path | None = None
    log_folder: Path | None = None  # None: they go to stderr


def run(config: ReplicaConfig, module: Sequence[str] = ("cluster.head",)) -> int:
    """Serves until SIGINT or SIGTERM; `module` is the head's.

    Returns the exit code: that of the head, 1 where its Ray is lost. Raises UserError.
    """
    asked = replace(config.serve, replicas=1)
    secret = token.require(asked.host, config.token_file)
    model, runner, cache, gpus, replica_bytes = serve.prepare(asked)
    port = probe.require_free(asked.host, asked.port)
    progress = Progress()
    progress.say(f"its KV cache holds {cache}")
    with serve.temporary() as folder:
        log_folder = config.log_folder or folder / "logs"
        logs.configure("replica", log_folder)
        spec = replace(
            serve.head_spec(asked, model, runner, gpus, log_folder),
            ray_folder=str(folder / "ray"),
            controller_port=probe.free_port(),
            leader_host=asked.host,
            leader_port=port,
            token=secret,
            processes=(Endpoint("replica", os.getpid(), serve.LOOPBACK, wire.outward(metrics.serve(asked.host))),),
        )
        shown = Logs(log_folder, None) if config.log_folder is None else None
        return asyncio.run(_run(spec, module, folder, shown, progress, replica_bytes))


async def _run(
    spec: HeadSpec, module: Sequence[str], folder: Path, shown: Logs | None, progress: Progress, replica_bytes: int
) -> int:
    file = folder / "head.json"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        json.dump(asdict(spec), stream)
    head = Child.start("head", [*module, "--spec", str(file)], {})
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, head.terminate)
    told = [_tell(spec, progress, Loading(replica_bytes, progress)), *([_show(shown, progress)] if shown else [])]
    tasks = [asyncio.create_task(each) for each in told]
    try:
        async for line in head.lines():
            if '"gcs_lost"' in line:
                progress.say("Ray lost its GCS: this replica ends, to be started again")
                return 1
        code = await head.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.to_thread(head.kill)
        await head.wait()
        if shown:
            _print(shown, progress)
            shown.close()
    if code == 2:
        raise UserError(head.complaint)
    return code


async def _tell(spec: HeadSpec, progress: Progress, loading: Loading) -> None:
    """Never returns."""
    ready = asyncio.Event()  # for the first time
    async with asyncio.TaskGroup() as group:
        group.create_task(loading.follow())
        group.create_task(loading.reassure(ready, ""))
        async for state in watch.states(f"{spec.node_ip}:{spec.controller_port}", spec.token):
            loading.fleet(state)
            progress.fleet(state)
            if all(replica.state == fleet_pb2.REPLICA_STATE_READY for replica in state.replicas):
                ready.set()


async def _show(shown: Logs, progress: Progress) -> None:
    """What all processes of the gang log goes to stderr, where a pod's logs are read. Never returns."""
    while True:
        _print(shown, progress)
        await asyncio.sleep(POLL_S)


def _print(shown: Logs, progress: Progress) -> None:
    for line in shown.read():
        progress.write(line)
