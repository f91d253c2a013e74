"""One rank of a replica as a Ray actor: starts a shard and watches it. Ray carries nothing once the shard serves."""

import importlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psutil
import ray

from ossia.common import wire
from ossia.common.errors import UserError
from workers.shard import RankInfo, Shard, ShardSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RankStatus:
    """What a rank is known by to whoever supervises it."""

    info: RankInfo
    node_id: str  # Ray's id of the node that it runs on
    address: str | None = None  # host:port of the leader, "" on other ranks; None until started


class Rank:
    """`shard` is the class to run, as module:class. Calls run in threads, so that `ping` answers whatever the others do."""

    def __init__(self, spec: ShardSpec, rank: int, shard: str) -> None:
        self._node = ray.util.get_node_ip_address()
        self._spec = replace(spec, host=spec.host or self._node, rendezvous_host=self._node)
        self._rank = rank
        self._class = shard
        self._shard: Shard | None = None
        self._ended = threading.Event()
        self._status: RankStatus | None = None

    def prepare(self) -> RankStatus:
        """Makes the shard. Raises UserError for what it finds wrong with its spec."""
        module, name = self._class.split(":")
        with self._named():
            runner = replace(self._spec.runner, interface=_interface(self._node))
            shard = getattr(importlib.import_module(module), name)(replace(self._spec, runner=runner), self._rank)
            info = shard.prepare()
        self._shard = shard
        info = replace(info, metrics_address=wire.outward(info.metrics_address))
        self._status = RankStatus(info, ray.get_runtime_context().get_node_id())
        return self._status

    def start(self, rendezvous: str, ranks: list[RankInfo]) -> str:
        """Returns the leader's host:port ("" on other ranks) once the shard serves; raises what the shard raises."""
        assert self._shard and self._status, "prepare() comes first"
        with self._named():
            address = wire.outward(self._shard.start(rendezvous, ranks))
        threading.Thread(target=self._watch, args=(self._shard,), name="shard-watch", daemon=True).start()
        self._status = replace(self._status, address=address)
        return address

    @ray.method(concurrency_group="wait")  # type: ignore[untyped-decorator]
    def wait(self) -> None:
        """Returns after stop(). The caller gets an ActorDiedError as soon as this process ends otherwise."""
        self._ended.wait()

    @ray.method(concurrency_group="ping")  # type: ignore[untyped-decorator]
    def ping(self) -> RankStatus | None:
        """None before prepare()."""
        return self._status

    def stop(self, grace_s: float) -> None:
        """Returns when the shard has ended; running requests have had `grace_s` seconds to finish."""
        if self._shard:
            self._shard.stop(grace_s)
            self._ended.wait()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """What a rank refuses may be so on its node alone, as a checkpoint that is not there."""
        try:
            yield
        except UserError as error:
            raise UserError(f"rank {self._rank} on {self._node}: {error}") from error

    def _watch(self, shard: Shard) -> None:
        """Ends the process when the shard fails: its death is what tells the controller, and frees the device."""
        try:
            shard.wait()
        except BaseException:
            logger.exception("the shard failed; this rank ends")
            logging.shutdown()
            os._exit(1)
        self._ended.set()


def _interface(address: str) -> str:
    """The network interface of this host that has this address: it may have another name on every host."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.family == socket.AF_INET and each.address == address for each in addresses):
            return name
    raise UserError(f"no network interface of this host has the address {address}, which Ray gives it")


RankActor = ray.remote(concurrency_groups={"ping": 1, "wait": 1}, max_concurrency=2, max_restarts=0, max_task_retries=0)(Rank)
