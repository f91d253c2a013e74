"""`ossia status`: what runs, asked of the controller and of every leader directly: it also answers when either is gone."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import grpc
from google.protobuf.json_format import ParseDict

from cluster import probe
from cluster.state import Instance
from ossia.common import wire
from ossia.v1 import engine_pb2, engine_pb2_grpc, fleet_pb2, fleet_pb2_grpc

TIMEOUT_S = 3.0  # for each question
STATES = {
    fleet_pb2.REPLICA_STATE_STARTING: "starting",
    fleet_pb2.REPLICA_STATE_READY: "ready",
    fleet_pb2.REPLICA_STATE_FAILED: "failed",
}
T = TypeVar("T")


@dataclass(frozen=True)
class ReplicaStatus:
    """One replica; what only its leader knows is empty while it does not answer."""

    name: str
    state: str  # "starting", "ready", "failed", or "silent": READY by the controller, but its leader does not answer
    address: str
    epoch: int
    restarts: int
    message: str
    ranks: list[dict[str, Any]]  # rank, pid, node, metrics_address
    dtype: str = ""
    layout: dict[str, Any] = field(default_factory=dict)
    kernels: dict[str, str] = field(default_factory=dict)
    load: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """An instance as `ossia status --json` prints it."""

    name: str
    state: str  # "ready", "starting", "degraded", "recovering", "gcs lost", "stopping" or "dead" (its supervisor is)
    url: str
    model: str
    model_names: tuple[str, ...]
    desired: dict[str, Any]  # replicas, ranks, experts
    controller: dict[str, Any]  # address, answers
    ray: dict[str, Any]  # address, gcs_answers
    supervisor_pid: int
    replicas: list[ReplicaStatus]
    processes: list[dict[str, Any]]  # part, pid

    @property
    def healthy(self) -> bool:
        return self.state == "ready"

    def json(self) -> dict[str, Any]:
        return asdict(self)


async def collect(instance: Instance) -> Status:
    """Asks everyone at the same time; takes no longer than twice TIMEOUT_S."""
    fleet, gcs_answers = await asyncio.gather(_fleet(instance), asyncio.to_thread(_gcs_answers, instance))
    known = fleet or ParseDict(instance.fleet, fleet_pb2.FleetState(), ignore_unknown_fields=True)
    replicas = await asyncio.gather(*(_replica(replica, instance.token) for replica in known.replicas))
    return Status(
        name=instance.name,
        state=_state(instance, list(replicas), fleet is not None, gcs_answers),
        url=instance.url,
        model=instance.model,
        model_names=instance.model_names,
        desired={"replicas": instance.replicas, "ranks": instance.ranks, "experts": instance.experts},
        controller={"address": instance.controller, "answers": fleet is not None},
        ray={"address": instance.ray_address, "gcs_answers": gcs_answers},
        supervisor_pid=instance.supervisor.pid,
        replicas=list(replicas),
        processes=[{"part": process.part, "pid": process.pid} for process in instance.processes if process.find()],
    )


def _state(instance: Instance, replicas: list[ReplicaStatus], controlled: bool, gcs_answers: bool) -> str:
    if instance.supervisor.find() is None:
        return "dead"
    if instance.phase in ("starting", "stopping"):
        return instance.phase
    if not gcs_answers:
        return "gcs lost"
    if instance.phase == "recovering":
        return "recovering"
    ready = sum(replica.state == "ready" for replica in replicas)
    return "ready" if controlled and ready == len(replicas) == instance.replicas else "degraded"


def _gcs_answers(instance: Instance) -> bool:
    """By its process where it is on this host, else by its port."""
    gcs = instance.process("ray/gcs_server")
    if gcs is not None:
        return gcs.find() is not None
    return bool(instance.ray_address) and probe.listens(instance.ray_address)


async def _fleet(instance: Instance) -> fleet_pb2.FleetState | None:
    async with wire.channel(instance.controller, instance.token) as channel:
        watch = fleet_pb2_grpc.FleetStub(channel).Watch
        return await _answer(lambda: _next(watch(fleet_pb2.WatchRequest(), timeout=TIMEOUT_S)))


async def _replica(replica: fleet_pb2.Replica, token: str | None) -> ReplicaStatus:
    described = load = None
    if replica.address:
        async with wire.channel(replica.address, token) as channel:
            engine = engine_pb2_grpc.EngineStub(channel)
            described, load = await asyncio.gather(
                _answer(lambda: engine.Describe(engine_pb2.DescribeRequest(), timeout=TIMEOUT_S)),
                _answer(lambda: _next(engine.WatchLoad(engine_pb2.WatchLoadRequest(), timeout=TIMEOUT_S))),
            )
    state = STATES.get(replica.state, "unknown")
    return ReplicaStatus(
        name=replica.name,
        state="silent" if state == "ready" and not (described and load) else state,
        address=replica.address,
        epoch=replica.epoch,
        restarts=replica.restarts,
        message=replica.message,
        ranks=[_fields(rank) for rank in replica.ranks],
        dtype=described.dtype if described else "",
        layout=_fields(described.layout) if described else {},
        kernels=dict(described.kernels) if described else {},
        load=_fields(load) if load else {},
    )


async def _answer(question: Callable[[], Awaitable[T]]) -> T | None:
    """None where nobody answers in time."""
    with suppress(grpc.aio.AioRpcError, StopAsyncIteration):
        return await question()
    return None


async def _next(stream: grpc.aio.UnaryStreamCall[Any, T]) -> T:
    return await anext(aiter(stream))


def _fields(message: Any) -> dict[str, Any]:
    """Every field of a flat message, unset ones too, with 64-bit numbers as numbers: protobuf's JSON makes them strings."""
    return {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}


def table(status: Status) -> str:
    """For people."""
    desired = status.desired
    lines = [
        f"{status.name}: {status.state}   {status.url}/v1   model {', '.join(status.model_names)}",
        f"wanted: {desired['replicas']} replicas × {desired['ranks']} ranks, experts {desired['experts']}",
    ]
    if status.state == "gcs lost":
        lines.append("Ray's GCS is lost: replicas go on serving, nothing is rebuilt until `ossia serve` has recovered")
    if not status.controller["answers"]:
        lines.append(f"the controller at {status.controller['address']} does not answer: the fleet below is the last one known")
    for replica in status.replicas:
        lines += ["", *_replica_lines(replica)]
    return "\n".join(lines)


def _replica_lines(replica: ReplicaStatus) -> list[str]:
    load = replica.load
    head = f"{replica.name}  {replica.state}  epoch {replica.epoch}  restarts {replica.restarts}  {replica.address}"
    lines = [head.rstrip() + (f"  {replica.message}" if replica.message else "")]
    if replica.kernels:
        kernels = ", ".join(f"{name} {kernel}" for name, kernel in sorted(replica.kernels.items()))
        lines.append(f"  experts {replica.layout['experts']}  {replica.dtype}  kernels: {kernels}")
    if load:
        used, total = load["kv_tokens_used"], load["kv_tokens_total"]
        lines.append(f"  running {load['running']}  waiting {load['waiting']}  KV cache {used} of {total} tokens")
        lines.append(f"  generated {load['tokens_generated']} tokens  step p99 {load['step_p99_ms']:.1f} ms")
    lines += [f"  rank {rank['rank']}  pid {rank['pid']}  node {rank['node']}" for rank in replica.ranks]
    return lines
