"""An engine made of engines: picks a replica for every request and moves it on, unnoticed, when that replica fails.

Exactly once: a request's `output` is what its consumer has been given. Whatever happens to a replica, the request goes on
elsewhere with `resume.tokens` = output and the same seed, so the next token is the one after it.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import grpc
from prometheus_client import CollectorRegistry

from ossia.v1 import fleet_pb2
from ossia.v1.engine_pb2 import Delta, DescribeResponse, FinishReason, Load, Submit
from router.deltas import ended
from router.engine import EngineError
from router.fleet import FleetSource
from router.metrics import RouterMetrics
from router.policy import POLICIES
from router.queue import Queue
from router.replica import Replica, State

logger = logging.getLogger(__name__)
MOVES = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL}  # errors of a replica, not of the request
FAILURES = {"LOST", "STALLED", "GAP"}  # reasons of UNAVAILABLE that are no refusal: the request ran, and may be the cause


@dataclass(frozen=True)
class RouterOptions:
    stall_floor_s: float = 10.0  # a replica is stalled after max(this, 20 x its recent p99 step) without a step
    queue_bound: int = 1024  # requests that wait while no replica is ready
    queue_wait_s: float = 30.0  # longest wait for a replica; the request's own deadline may be sooner
    max_resumptions: int = 5  # a request that has outlived so many replicas may be what kills them
    policy: str = "least-outstanding-tokens"


@dataclass(eq=False)
class _Request:
    submit: Submit
    output: list[int]  # what the consumer has
    resumptions: int = 0
    until: float | None = None  # while it looks for a replica: when it gives up, on time.monotonic's clock
    full: dict[Replica, EngineError] = field(default_factory=dict)  # replicas that answered RESOURCE_EXHAUSTED
    started: float = field(default_factory=time.monotonic)

    @property
    def log(self) -> dict[str, str]:
        return {"request_id": self.submit.request_id}


class Router:
    """An `Engine` over the fleet that `source` tells of. One per event loop; `start` and `close` it there."""

    def __init__(
        self,
        source: FleetSource,
        token: str | None = None,
        options: RouterOptions | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._source = source
        self._token = token
        self._options = options or RouterOptions()
        self._policy = POLICIES[self._options.policy]
        self._metrics = RouterMetrics(registry or CollectorRegistry())
        self._queue = Queue(self._options.queue_bound, self._metrics.queued.set)
        self.epoch = secrets.randbits(64)  # one life of this router
        self._fleet = fleet_pb2.FleetState()
        self._card: DescribeResponse | None = None
        self._replicas: dict[tuple[str, int, str], Replica] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Begins to follow the fleet; returns at once. `wait_ready` waits."""
        self._watcher = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Lets every replica go; requests that still run raise UNAVAILABLE."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        self._apply(fleet_pb2.FleetState())
        if self._closing:
            await asyncio.wait(self._closing)

    async def wait_ready(self, ready: bool = True) -> None:
        """Returns once `self.ready == ready`."""
        while self.ready != ready:
            self._changed.clear()
            await self._changed.wait()

    async def _follow(self) -> None:
        try:
            async for state in self._source.watch():
                self._apply(state)
        except Exception:
            logger.exception("the fleet source failed; the last known fleet stays")
            raise

    def _apply(self, state: fleet_pb2.FleetState) -> None:
        """Makes the replicas those of `state`; a new epoch or address is a new replica."""
        self._fleet = state
        wanted = {(r.name, r.epoch, r.address): r for r in state.replicas if r.state == fleet_pb2.REPLICA_STATE_READY}
        for key in self._replicas.keys() - wanted.keys():
            replica = self._replicas.pop(key)
            task = asyncio.create_task(self._retire(replica))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        for key, entry in wanted.items():
            if key in self._replicas:
                self._replicas[key].entry = entry
            else:
                self._replicas[key] = Replica(entry, self._token, self._options.stall_floor_s, self._notice)
                self._notice(self._replicas[key])

    async def _retire(self, replica: Replica) -> None:
        await replica.close()
        if replica.name not in {other.name for other in self._replicas.values()}:
            self._metrics.forget(replica.name)

    def _notice(self, replica: Replica) -> None:
        """A replica's state changed."""
        self._show(replica)
        if replica.state is State.READY:
            self._card = replica.card
            self._queue.wake()
        self._changed.set()

    def _show(self, replica: Replica) -> None:
        if replica in self._replicas.values():
            self._metrics.replica(replica.name, replica.state.value, replica.outstanding.tokens)

    # ------------------------------------------------------------ what others ask

    @property
    def ready(self) -> bool:
        """A source has answered and a replica that has generated a token is connected."""
        return any(replica.state is State.READY for replica in self._replicas.values())

    def processes(self) -> list[fleet_pb2.Process]:
        """The fleet's processes beside the ranks."""
        return list(self._fleet.processes)

    def replicas(self) -> list[fleet_pb2.Replica]:
        """The fleet as last known; where the source does not tell the ranks, those that the replica describes."""
        result = []
        for entry in self._fleet.replicas:
            known = fleet_pb2.Replica()
            known.CopyFrom(entry)
            replica = self._replicas.get((entry.name, entry.epoch, entry.address))
            if not known.ranks and replica is not None and replica.card is not None:
                known.ranks.extend(replica.card.ranks)
            result.append(known)
        return result

    def load(self) -> Load:
        """The sum of what the replicas last told; waiting requests include this router's queue."""
        total = Load(waiting=len(self._queue))
        for replica in self._replicas.values():
            load = replica.load
            total.running += load.running
            total.waiting += load.waiting
            total.prefill_tokens += load.prefill_tokens
            total.kv_tokens_used += load.kv_tokens_used
            total.kv_tokens_total += load.kv_tokens_total
            total.step_p99_ms = max(total.step_p99_ms, load.step_p99_ms)
            total.tokens_generated += load.tokens_generated
        return total

    async def describe(self) -> DescribeResponse:
        """The card of a replica, with this router's epoch, its readiness and the ranks of all replicas."""
        if self._card is None:
            raise EngineError(grpc.StatusCode.UNAVAILABLE, "no replica has answered yet", reason="NO_REPLICA")
        card = DescribeResponse()
        card.CopyFrom(self._card)
        card.epoch = self.epoch
        card.ready = self.ready
        del card.ranks[:]
        card.ranks.extend(rank for replica in self.replicas() for rank in replica.ranks)
        return card

    # ------------------------------------------------------------ requests

    async def generate(self, submit: Submit) -> AsyncGenerator[Delta, None]:
        """As Engine.generate; raises EngineError UNAVAILABLE (NO_REPLICA), RESOURCE_EXHAUSTED or a replica's own."""
        request = self._accept(submit)
        last: float | None = None
        outcome = "cancelled"
        try:
            async with aclosing(self._deltas(request)) as deltas:
                async for delta in deltas:
                    last = self._measure(request, delta, last)
                    if ended(delta):
                        outcome = FinishReason.Name(delta.finish).removeprefix("FINISH_REASON_").lower()
                    yield delta
        except EngineError as error:
            outcome = error.code.name.lower()
            raise
        finally:
            self._metrics.requests.labels(outcome).inc()

    def _accept(self, submit: Submit) -> _Request:
        own = Submit()
        own.CopyFrom(submit)
        if not own.sampling.HasField("seed"):
            own.sampling.seed = secrets.randbits(64)
        self._metrics.prompt_tokens.inc(len(own.prompt))
        return _Request(own, list(own.resume.tokens))

    async def _deltas(self, request: _Request) -> AsyncGenerator[Delta, None]:
        """The request's deltas, from as many replicas as it takes."""
        while True:
            replica = await self._place(request)
            try:
                async with aclosing(self._attempt(request, replica)) as deltas:
                    async for delta in deltas:
                        yield delta
                return
            except EngineError as error:
                self._survive(request, replica, error)

    async def _place(self, request: _Request) -> Replica:
        """The replica to try next; waits for one where none is ready."""
        if request.until is None:
            request.until = time.monotonic() + self._patience_s(request.submit)
        while True:
            ready = [replica for replica in self._replicas.values() if replica.state is State.READY]
            if candidates := [replica for replica in ready if replica not in request.full]:
                return self._policy(candidates)
            if ready:
                raise next(reversed(request.full.values()))
            wait_s = request.until - time.monotonic()
            await self._queue.wait(wait_s, priority=request.submit.priority, resumed=request.resumptions > 0)

    def _patience_s(self, submit: Submit) -> float:
        patience_s = self._options.queue_wait_s
        if submit.HasField("deadline_unix_ms"):
            patience_s = min(patience_s, submit.deadline_unix_ms / 1000 - time.time())
        return patience_s

    async def _attempt(self, request: _Request, replica: Replica) -> AsyncGenerator[Delta, None]:
        """Deltas from one replica, counted toward its outstanding tokens while they come."""
        if request.output:
            request.submit.resume.tokens[:] = request.output
        share = replica.outstanding.open(request.submit)
        self._show(replica)
        try:
            async with aclosing(replica.generate(request.submit)) as deltas:
                async for delta in deltas:
                    request.until = None
                    share.answered(len(delta.tokens))
                    request.output.extend(delta.tokens)
                    yield delta
        finally:
            share.close()
            self._show(replica)

    def _survive(self, request: _Request, replica: Replica, error: EngineError) -> None:
        """Returns when the request should be tried elsewhere, raises `error` when not."""
        if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            request.full[replica] = error
            return
        if error.code not in MOVES:
            raise error
        if error.code is grpc.StatusCode.UNAVAILABLE and error.reason not in FAILURES:
            if request.until is not None and time.monotonic() > request.until:
                raise error
            return
        request.resumptions += 1
        if request.resumptions > self._options.max_resumptions:
            logger.error("given up after %d replicas: %s", request.resumptions, error.message, extra=request.log)
            raise error
        request.full.clear()
        self._metrics.resumed.inc()
        logger.warning("resumed from token %d: %s", len(request.output), error.message, extra=request.log)

    def _measure(self, request: _Request, delta: Delta, last: float | None) -> float | None:
        """Counts a delta's tokens and times them; returns when the last token came."""
        if not delta.tokens:
            return last
        now = time.monotonic()
        self._metrics.output_tokens.inc(len(delta.tokens))
        if last is None:
            self._metrics.ttft.observe(now - request.started)
        else:
            self._metrics.inter_token.observe((now - last) / len(delta.tokens))
        return now
