"""`ossia serve`: from what is asked for to a running instance. Checks everything that can be checked before anything starts."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from prometheus_client import Counter

from cluster import devices, memory, planner, probe, simulated, token
from cluster.config import ServeConfig, flag
from cluster.identity import ProcessId
from cluster.make_checkpoint import default_checkpoint
from cluster.planner import Demand, Device, Plan
from cluster.progress import Progress
from cluster.spec import HeadSpec, Strategy
from cluster.state import Folder, Instance, Record
from cluster.stop import clean
from cluster.supervisor import Modules, Supervisor
from ossia.common import logs, metrics, wire
from ossia.common.errors import UserError
from ossia.common.metrics import Endpoint
from workers.checkpoint.contents import rank_bytes, scan
from workers.checkpoint.resolve import ResolvedModel, resolve
from workers.model.layout import Layout, Shard
from workers.runner.spec import RunnerSpec

SHARDS = {"torch": HeadSpec.shard, "simulated": "workers.simulated.shard:SimulatedShard"}  # by engine
STRATEGIES: Mapping[str, Strategy] = {"strict-pack": "STRICT_PACK", "pack": "PACK"}
LOOPBACK = "127.0.0.1"
LONGEST_PARENT = 16  # characters of the folder for temporary files: Linux allows 107 for the path of a socket


def run(config: ServeConfig, modules: Modules | None = None) -> int:
    """Serves until it is told to stop; returns the exit code. Raises UserError with nothing left running."""
    folder = Folder(config.name)
    with folder.lock():
        _clean(folder)
        model, runner, cache, gpus, replica_bytes = prepare(config)
        port = probe.require_free(config.host, config.port)
        folder.rotate_logs()
        logs.configure("supervisor", folder.logs)
        spec = head_spec(config, model, runner, gpus, folder.logs)
        endpoint = Endpoint("supervisor", os.getpid(), spec.node_ip, metrics.serve(LOOPBACK))
        spec = replace(spec, controller_port=probe.free_port(spec.node_ip), processes=(endpoint,))
        Progress().say(f"the KV cache of a replica holds {cache}")
        with temporary() as scratch:
            instance = _instance(config, spec, model, port, scratch)
            gateway = _gateway(config, instance, port, folder.logs)
            database = {"OSSIA_DATABASE": config.database or folder.database}  # it may hold a password
            try:
                supervisor = Supervisor(
                    spec,
                    gateway,
                    Record(folder, instance),
                    scratch,
                    _restarts(),
                    replica_bytes=replica_bytes,
                    environment=database,
                    modules=modules,
                )
                return asyncio.run(supervisor.run())
            finally:
                folder.remove()


def _clean(folder: Folder) -> None:
    """What a supervisor left that the lock says is dead."""
    try:
        stale = folder.read()
    except UserError:  # cut short as the host lost its power, or another version's: what it names ended with its supervisor
        Progress().say(f"the state that an earlier run left in {folder.path} cannot be read; it is written anew")
        return
    if stale:
        clean(folder, stale)


def _restarts() -> Counter:
    return Counter("ossia_supervisor_restarts", "Processes started again after they died.", ["part"])


class Prepared(NamedTuple):
    """What replicas are to be made of."""

    model: ResolvedModel
    runner: RunnerSpec
    cache: str  # what that of a replica holds, for people
    gpus: Sequence[int]  # free bytes of each that ranks may use
    replica_bytes: int = 0  # of the checkpoint, that one reads


def prepare(config: ServeConfig) -> Prepared:
    """Raises UserError: nothing there, or no room for it."""
    if config.engine == "simulated":
        return Prepared(*simulated.plan(config), gpus=())
    model, gpus = find_model(config.model), devices.gpus()
    runner, plan = plan_runner(config, model, gpus)
    return Prepared(model, runner, plan.cache, gpus, _replica_bytes(model, runner.layout))


def _replica_bytes(model: ResolvedModel, layout: Layout) -> int:
    contents = scan(model.path)
    return sum(rank_bytes(contents, Shard(contents.config, layout, rank)) for rank in range(layout.ranks))


def find_model(model: str | None) -> ResolvedModel:
    """The checkpoint that MODEL names, or ossia-tiny, which is expanded at first use. Raises UserError."""
    return resolve(model if model is not None else str(default_checkpoint()))


def plan_runner(config: ServeConfig, model: ResolvedModel, gpus: Sequence[int]) -> tuple[RunnerSpec, Plan]:
    """What every rank is told, and what comes of it.

    `gpus` are the free bytes of each; without any, all ranks share this host's memory.

    Raises UserError where the layout cannot be or does not fit.
    """
    contents = scan(model.path)
    layout = Layout(config.ranks, config.experts)
    ranks = config.replicas * config.ranks
    if gpus and ranks > len(gpus) and config.ray_address is None:
        needed = f"{config.replicas} x {config.ranks} ranks need a GPU each, this host has {len(gpus)}"
        raise UserError(f"{needed}: use fewer, or set CUDA_VISIBLE_DEVICES to nothing to compute on the CPU")
    device = Device(min(gpus)) if gpus else Device(memory.available(), ranks)
    demand = Demand(dtype(config, gpus=bool(gpus)), config.max_context, config.kv_memory, config.unpack_experts)
    plan = planner.plan(contents.config, contents.packed, layout, device, demand)
    runner = RunnerSpec(
        checkpoint=str(model.path),
        layout=layout,
        dtype=demand.dtype,
        kv_memory=plan.kv_memory,
        max_context=config.max_context,
        drafts=not config.no_drafts,
        unpack_experts=config.unpack_experts,
        deterministic=config.deterministic,
        collective_timeout_s=config.collective_timeout,
    )
    return runner, plan


def dtype(config: ServeConfig, *, gpus: bool) -> str:
    """Of activations, KV cache and all weights but the experts."""
    return config.dtype or ("bfloat16" if gpus else "float32")


def head_spec(config: ServeConfig, model: ResolvedModel, runner: RunnerSpec, gpus: Sequence[int], log_folder: Path) -> HeadSpec:
    """What the head is told to keep running, its own port and the processes beside it apart."""
    open_to_others = config.ray_address or not wire.is_loopback(config.host)
    return HeadSpec(
        instance=config.name,
        replicas=config.replicas,
        runner=runner,
        model_names=config.served_model_name or model.names,
        log_folder=str(log_folder),
        ray_address=config.ray_address,
        node_ip=node_ip(config.ray_address),
        token=token.read() or (token.make() if open_to_others else None),
        gpus_per_rank=1.0 if gpus else 0.0,
        strategy=STRATEGIES[config.placement],
        grace_s=config.grace,
        shard=SHARDS[config.engine],
    )


def node_ip(ray_address: str | None) -> str:
    """The address of this host in the cluster: loopback, unless Ray runs elsewhere too."""
    return LOOPBACK if ray_address is None else probe.local_address(ray_address)


def _instance(config: ServeConfig, spec: HeadSpec, model: ResolvedModel, port: int, scratch: Path) -> Instance:
    return Instance(
        name=config.name,
        supervisor=ProcessId.me("supervisor"),
        url=f"{'https' if config.tls_cert else 'http'}://{probe.reachable(config.host)}:{port}",
        model=str(model.path),
        model_names=spec.model_names,
        replicas=config.replicas,
        ranks=spec.runner.layout.ranks,
        experts=config.experts,
        controller=f"{spec.node_ip}:{spec.controller_port}",
        folder=str(scratch),
        grace=config.grace,
        token=spec.token,
    )


def _gateway(config: ServeConfig, instance: Instance, port: int, log_folder: Path) -> list[str]:
    files = [
        argument
        for name in ("encryption_key_file", "access", "tls_cert", "tls_key", "tls_client_ca", "tools")
        if (file := getattr(config, name))
        for argument in (flag(name), file)
    ]
    names = [argument for name in config.served_model_name for argument in ("--served-model-name", name)]
    return [
        *("--fleet", f"controller:{instance.controller}"),
        *("--host", config.host, "--port", str(port), "--processes", str(config.gateway_processes)),
        *("--grace", str(config.grace), "--log-folder", str(log_folder)),
        *("--retention-days", str(config.retention_days), "--date", config.date, *files),
        *names,
    ]


@contextmanager
def temporary() -> Iterator[Path]:
    """A folder with a short path, for the sockets that Ray makes in it. Raises UserError."""
    try:
        parent = tempfile.gettempdir()
        folder = Path(tempfile.mkdtemp(prefix="ossia-", dir=parent if len(parent) <= LONGEST_PARENT else "/tmp"))
    except OSError as error:
        hint = "make room, or set TMPDIR to one"
        raise UserError(f"there is no folder for temporary files ({error.strerror}); {hint}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
