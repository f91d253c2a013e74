"""One rank's life, without Ray: prepare, start, wait, stop. `python -m workers.shard` runs one by itself."""

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Mapping
from concurrent import futures
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ossia.common import logs, metrics, wire
from ossia.common.errors import UserError
from ossia.common.metrics import Endpoint
from ossia.v1 import engine_pb2
from workers import grammar
from workers.engine import capacity
from workers.engine.limits import Limits
from workers.engine.thread import run_in_thread
from workers.leader.leader import Leader
from workers.metrics import Metrics
from workers.model.layout import Layout
from workers.runner.built import Built
from workers.runner.built import limits as limits_of
from workers.runner.spec import RunnerSpec

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

logger = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class ShardSpec:
    """The same for every rank of a gang; travels as JSON."""

    replica: str  # "replica-0"
    epoch: int  # one life of the gang
    runner: RunnerSpec
    model_names: tuple[str, ...]  # the preferred one first
    host: str  # address that gRPC and metrics bind to
    port: int  # the leader's; 0 is a free one
    token: str | None  # the cluster's gRPC token
    log_folder: str | None  # None logs to stderr
    grace_s: float  # for running requests to finish when a signal stops `python -m workers.shard`
    processes: tuple[Endpoint, ...] = ()  # beside the ranks, for whoever has no fleet to learn them from
    rendezvous_host: str = ""  # address that the ranks meet at, which asks for no token; empty: that of gRPC


@dataclass(frozen=True)
class RankInfo:
    """What a rank is known by once prepared; travels as JSON."""

    rank: int
    pid: int
    node: str
    metrics_address: str  # host:port
    rendezvous: str  # host:port of the store where the ranks meet; "" but on rank 0 of several


class Shard:
    """Call `prepare`, `start` and `wait` in this order, `stop` at any time from any thread.

    Every wait is bounded: a lost or hung peer makes the collectives fail within the runner's timeout, and that ends `wait`.
    """

    reads_declarations: ClassVar[bool] = False  # as DescribeResponse has it

    def __init__(self, spec: ShardSpec, rank: int) -> None:
        wire.require_token(spec.host, spec.token)
        self._spec = spec
        self._rank = rank
        self._metrics = Metrics()
        self._store: Store | None = None
        self._leader: Leader | None = None
        self._loop = _LoopThread()
        self._done: futures.Future[None] | None = None  # once started: the step loop or the following
        self._stopping = Lock()

    def prepare(self) -> RankInfo:
        """Sends logs where they belong and serves metrics; rank 0 of several opens the store. Cheap: loads nothing."""
        folder = self._spec.log_folder
        logs.configure(f"{self._spec.replica}/rank-{self._rank}", Path(folder) if folder else None)
        address = metrics.serve(self._spec.host)
        rendezvous = self._open_store() if self._rank == 0 and self._spec.runner.layout.ranks > 1 else ""
        return RankInfo(self._rank, os.getpid(), socket.gethostname(), address, rendezvous)

    def start(self, rendezvous: str, ranks: list[RankInfo]) -> str:
        """Loads and joins the other ranks, which must start too. The leader generates one token and then serves.

        `rendezvous` is what rank 0's `prepare` returned. Returns the leader's host:port, "" on other ranks. Raises UserError
        for what the user can mend, RuntimeError when a rank is lost meanwhile.
        """
        runner = self._load(rendezvous)
        if self._rank > 0:
            self._done = futures.Future()
            run_in_thread("steps", runner.follow, self._done)
            return ""
        address = self._loop.run(self._lead(runner, ranks))
        assert self._leader is not None
        self._done = self._leader.engine.done
        return address

    def wait(self) -> None:
        """Blocks until the shard has ended: returns after `stop`, raises what made the step loop or a collective fail."""
        assert self._done is not None, "start comes first"
        try:
            self._done.result()
        finally:
            self.stop(0.0)

    def stop(self, grace_s: float) -> None:
        """Returns when the shard has ended. The leader lets running requests finish within `grace_s`; the others follow it."""
        with self._stopping:
            if self._leader is not None:
                self._loop.run(self._leader.stop(grace_s))
                self._leader = None
        if self._done is not None:
            futures.wait([self._done])

    def _open_store(self) -> str:
        from workers import rendezvous

        self._store, address = rendezvous.serve(self._spec.rendezvous_host or self._spec.host, self._spec.runner.layout.ranks)
        return address

    def _load(self, address: str) -> Built:
        from workers import rendezvous
        from workers.checkpoint.progress import loading
        from workers.runner.build import build

        spec = self._spec.runner
        if self._rank > 0:
            self._store = rendezvous.join(address, spec.layout.ranks)
        if self._store is not None:
            rendezvous.meet(self._store, "started", self._rank, spec.layout.ranks)
        with loading(spec.checkpoint, spec.layout, self._rank) as advance:

            def progress(count: int) -> None:
                advance(count)
                self._metrics.read(count)

            return build(spec, self._rank, self._store, progress)

    def _compile(self, message: engine_pb2.Grammar, vocab_size: int) -> grammar.Compiled:
        """What requests are held to."""
        return grammar.compile(message, vocab_size)

    async def _lead(self, runner: Built, ranks: list[RankInfo]) -> str:
        spec = self._spec
        limits = limits_of(spec.runner, runner)
        sliding = limits.sliding_blocks * limits.block_size * (limits.window > 1)
        logger.info("the KV cache holds %s", capacity.described(limits.kv_tokens, sliding))
        card = _card(spec, limits, runner.kernels, ranks)
        card.reads_declarations = self.reads_declarations
        self._leader = Leader(
            runner,
            limits,
            card,
            host=spec.host,
            port=spec.port,
            token=spec.token,
            beat_s=spec.runner.collective_timeout_s / 3,
            metrics=self._metrics,
            compile=self._compile,
        )
        return await self._leader.start()


class _LoopThread:
    """An event loop in a thread of its own, for the life of the process: whatever hosts the shard may have another."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, name="grpc", daemon=True).start()

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Runs it on the loop and waits for its result. Any other thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _card(spec: ShardSpec, limits: Limits, kernels: Mapping[str, str], ranks: list[RankInfo]) -> engine_pb2.DescribeResponse:
    layout = spec.runner.layout
    return engine_pb2.DescribeResponse(
        epoch=spec.epoch,
        model_names=spec.model_names,
        max_context=limits.context,
        vocab_size=limits.vocab_size,
        stop_token_ids=sorted(limits.stop_token_ids),
        dtype=spec.runner.dtype,
        layout=engine_pb2.Layout(ranks=layout.ranks, experts=layout.experts),
        kernels=kernels,
        ranks=[
            engine_pb2.Rank(rank=info.rank, pid=info.pid, node=info.node, metrics_address=info.metrics_address)
            for info in ranks
        ],
        processes=[engine_pb2.Process(**asdict(process)) for process in spec.processes],
    )


def main() -> int:
    """Runs one rank. Rank 0 prints its RankInfo as a line of JSON, then `{"address": host:port}` once it serves."""
    parser = argparse.ArgumentParser(prog="python -m workers.shard", description="Run one rank of a replica without Ray.")
    parser.add_argument("--spec", type=Path, required=True, help="file with a ShardSpec as JSON")
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--rendezvous", default="", help="host:port that rank 0 printed")
    arguments = parser.parse_args()
    try:
        _run(_read(arguments.spec), arguments.rank, arguments.rendezvous)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except Exception:
        logger.exception("the shard failed")
        return 1
    return 0


def _run(spec: ShardSpec, rank: int, rendezvous: str) -> None:
    shard = Shard(spec, rank)
    info = shard.prepare()
    _say(rank, asdict(info))
    address = shard.start(rendezvous, [info])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: Thread(target=shard.stop, args=(spec.grace_s,), daemon=True).start())
    _say(rank, {"address": address})
    shard.wait()


def _say(rank: int, line: dict[str, Any]) -> None:
    if rank == 0:
        print(json.dumps(line), flush=True)


def _read(file: Path) -> ShardSpec:
    data = json.loads(file.read_text())
    runner = RunnerSpec(**{**data["runner"], "layout": Layout(**data["runner"].get("layout", {}))})
    processes = tuple(Endpoint(**process) for process in data.get("processes", ()))
    return ShardSpec(**{**data, "runner": runner, "model_names": tuple(data["model_names"]), "processes": processes})


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    os._exit(code)  # a collective that waits for a lost peer would hold up the interpreter's own end
