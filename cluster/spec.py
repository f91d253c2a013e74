"""What the head is told to keep running, in plain values that travel as JSON between processes and into the controller."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ossia.common import wire
from ossia.common.errors import UserError
from ossia.common.metrics import Endpoint
from workers.model.layout import Layout
from workers.runner.spec import RunnerSpec

Strategy = Literal["STRICT_PACK", "PACK"]  # of a placement group


@dataclass(frozen=True)
class Survivor:
    """A replica of an earlier head whose Ray is lost: served until its replacement starts."""

    name: str
    address: str  # host:port of its leader
    pids: tuple[int, ...]  # its ranks, in rank order
    epoch: int = 1  # its last one; the replacement's is the next


@dataclass(frozen=True)
class HeadSpec:
    instance: str  # name of this `ossia serve`; prefixes every actor's name
    replicas: int
    runner: RunnerSpec
    model_names: tuple[str, ...]
    log_folder: str
    ray_address: str | None = None  # an existing Ray; None starts one that belongs to this head
    ray_folder: str = ""  # temporary folder of the Ray that it starts; its path is short, for sockets lie in it
    node_ip: str = "127.0.0.1"  # address that the controller and the Ray that it starts bind to
    controller_port: int = 0
    controller_metrics_port: int = 0  # kept over its lives, for the ranks tell it
    leader_host: str = ""  # address that leaders, metrics and rendezvous bind to; empty: that of the rank's node in Ray
    leader_port: int = 0  # 0: a free one for every leader
    token: str | None = None  # the cluster's gRPC token
    cpus_per_rank: float = 0.0  # size of a bundle; 0: an even share of Ray's, and the runner's threads with it
    gpus_per_rank: float = 0.0
    strategy: Strategy = "STRICT_PACK"  # a replica on one node, or on several where it must
    placement_timeout_s: float = 60.0
    start_timeout_s: float = 1800.0  # loading included
    ping_timeout_s: float = 10.0  # a rank that does not answer for so long has hung
    grace_s: float = 30.0
    processes: tuple[Endpoint, ...] = ()  # beside the controller and the ranks
    survivors: tuple[Survivor, ...] = ()
    shard: str = "workers.shard:Shard"  # what a rank runs, as module:class

    def __post_init__(self) -> None:
        if self.leader_port and self.replicas > 1:
            raise UserError(f"{self.replicas} replicas cannot share leader port {self.leader_port}: use 0, a free one for each")
        for host in filter(None, (self.node_ip, self.leader_host)):
            wire.require_token(host, self.token)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the replicas."""
        return tuple(f"replica-{index}" for index in range(self.replicas))

    @property
    def metrics_host(self) -> str:
        """Address that the metrics of head and controller bind to."""
        return self.leader_host or self.node_ip

    @property
    def bundle(self) -> dict[str, float]:
        """What Ray sets aside for a rank."""
        return {"CPU": self.cpus_per_rank} | ({"GPU": self.gpus_per_rank} if self.gpus_per_rank else {})

    @classmethod
    def parse(cls, text: str) -> "HeadSpec":
        """The inverse of `json.dumps(dataclasses.asdict(spec))`."""
        values: dict[str, Any] = json.loads(text)
        values["runner"] = _runner(values["runner"])
        values["model_names"] = tuple(values["model_names"])
        values["processes"] = tuple(Endpoint(**endpoint) for endpoint in values.get("processes", ()))
        values["survivors"] = tuple(_survivor(survivor) for survivor in values.get("survivors", ()))
        return cls(**values)


def _runner(values: Mapping[str, Any]) -> RunnerSpec:
    return RunnerSpec(**{**values, "layout": Layout(**values["layout"]), "costs": tuple(values.get("costs", ()))})


def _survivor(values: Mapping[str, Any]) -> Survivor:
    return Survivor(**{**values, "pids": tuple(values["pids"])})
