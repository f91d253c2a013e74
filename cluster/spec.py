"""What the head process is told to keep running, in plain values that travel as JSON between processes and into the controller."""

from dataclasses import dataclass, field

from workers.runner.spec import RunnerSpec


@dataclass(frozen=True)
class Endpoint:
    """A process of this instance that has metrics and was not placed by the controller."""

    part: str
    pid: int
    metrics_address: str  # host:port


@dataclass(frozen=True)
class Survivor:
    """A replica of an earlier head whose Ray is lost: served until its replacement starts."""

    name: str
    address: str  # host:port of its leader
    pids: tuple[int, ...]  # its ranks, in rank order


@dataclass(frozen=True)
class HeadSpec:
    instance: str  # name of this `ossia serve`; prefixes every actor's name
    replicas: int
    runner: RunnerSpec
    model_names: tuple[str, ...]
    log_folder: str
    ray_address: str | None = None  # an existing Ray; None starts one that belongs to this head
    ray_folder: str = ""  # temporary folder of the Ray that it starts
    node_ip: str = "127.0.0.1"  # address that Ray, leaders, metrics and torch.distributed bind to
    controller_port: int = 0
    leader_port: int = 0  # 0: a free one for every leader
    token: str | None = None  # the cluster's gRPC token
    max_sequences: int = 64  # requests that run at once in a replica
    token_budget: int = 512  # tokens computed in a step
    cpus_per_rank: float = 0.5  # size of a bundle
    gpus_per_rank: float = 0.0
    placement_timeout_s: float = 60.0
    start_timeout_s: float = 1800.0  # loading included
    ping_timeout_s: float = 10.0
    grace_s: float = 30.0
    processes: tuple[Endpoint, ...] = ()
    survivors: tuple[Survivor, ...] = field(default_factory=tuple)
