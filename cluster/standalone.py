"""`ossia replica`: one gang inside this host on a Ray of its own, as a pod runs it; a pod that loses it is started again."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cluster import probe, serve, token, watch
from cluster.child import Child
from cluster.config import ServeConfig
from cluster.logs import POLL_S, Logs
from cluster.progress import Progress
from cluster.spec import HeadSpec
from ossia.common import logs
from ossia.common.errors import UserError


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
    model, runner, cache, gpus = serve.prepare(asked)
    port = probe.require_free(asked.host, asked.port)
    Progress().say(f"its KV cache holds {cache}")
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
        )
        return asyncio.run(_run(spec, module, folder, Logs(log_folder, None) if config.log_folder is None else None))


async def _run(spec: HeadSpec, module: Sequence[str], folder: Path, shown: Logs | None) -> int:
    file = folder / "head.json"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        json.dump(asdict(spec), stream)
    head = Child.start("head", [*module, "--spec", str(file)], {})
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, head.terminate)
    progress = Progress()
    tasks = [asyncio.create_task(_say_fleet(spec, progress))] + ([asyncio.create_task(_show(shown))] if shown else [])
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
            _print(shown)
            shown.close()
    if code == 2:
        raise UserError(head.complaint)
    return code


async def _say_fleet(spec: HeadSpec, progress: Progress) -> None:
    async for state in watch.states(f"{spec.node_ip}:{spec.controller_port}", spec.token):
        progress.fleet(state)


async def _show(shown: Logs) -> None:
    """What all processes of the gang log goes to stderr, where a pod's logs are read."""
    while True:
        _print(shown)
        await asyncio.sleep(POLL_S)


def _print(shown: Logs) -> None:
    for line in shown.read():
        print(line, file=sys.stderr, flush=True)
