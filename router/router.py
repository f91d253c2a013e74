"""An engine made of engines: picks a replica for every request and moves it on, unnoticed, when that replica fails.

Exactly once: a request's `output` is what its consumer has been given. Whatever happens to a replica, the request goes on
elsewhere with `resume.tokens` = output and the same seed, so the next token is the one after it. What was told of the prompt's
log probabilities is counted likewise.
"""

import logging
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import grpc
from prometheus_client import CollectorRegistry

from ossia.v1 import engine_pb2, fleet_pb2
from ossia.v1.engine_pb2 import FINISH_REASON_DEADLINE, Delta, DescribeResponse, FinishReason, Load, Submit, Usage
from router.deltas import ended
from router.engine import EngineError
from router.fleet import FleetSource
from router.metrics import RouterMetrics
from router.policy import POLICIES
from router.queue import Queue
from router.replica import Replica
from router.roster import Roster, Standing

logger = logging.getLogger(__name__)
MOVES = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL}  # errors of a replica, not of the request
REFUSALS = {"STOPPING", "NO_REPLICA", "QUEUE_FULL"}  # of UNAVAILABLE: the request never ran, so that it cannot be the cause


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
    told: int  # log probabilities of the prompt that it has
    resumptions: int = 0
    until: float | None = None  # while it looks for a replica: when it gives up, on time.monotonic's clock
    until_deadline: bool = False  # `until` is the request's own deadline
    full: dict[Replica, EngineError] = field(default_factory=dict)  # replicas to which it is not sent again, by answer
    started: float = field(default_factory=time.monotonic)

    def look(self, patience_s: float) -> None:
        """Begins to look for a replica, for so long or until its deadline."""
        left_s = patience_s
        if self.submit.HasField("deadline_unix_ms"):
            left_s = self.submit.deadline_unix_ms / 1000 - time.time()
        self.until_deadline = left_s < patience_s
        self.until = time.monotonic() + min(left_s, patience_s)

    def overdue(self) -> Delta:
        """Its last delta where the deadline has passed."""
        usage = Usage(prompt_tokens=len(self.submit.prompt), output_tokens=len(self.output))
        return Delta(first_index=len(self.output), finish=FINISH_REASON_DEADLINE, usage=usage)

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
        self._options = options or RouterOptions()
        self._policy = POLICIES[self._options.policy]
        self._metrics = RouterMetrics(registry or CollectorRegistry())
        self._queue = Queue(self._options.queue_bound, self._metrics.queued.set)
        self._roster = Roster(source, token, self._options.stall_floor_s, self._metrics, self._queue.wake)
        self.epoch = secrets.randbits(64)  # one life of this router

    async def start(self) -> None:
        """Begins to follow the fleet; returns at once. `wait_ready` waits."""
        self._roster.start()

    async def close(self) -> None:
        """Lets every replica go; requests that wait or run raise UNAVAILABLE."""
        self._queue.close()
        await self._roster.close()

    # ------------------------------------------------------------ what others ask

    @property
    def ready(self) -> bool:
        """A source has answered and a replica that has generated a token is connected."""
        return bool(self._roster.ready())

    async def wait_ready(self, ready: bool = True) -> None:
        """Returns once `self.ready == ready`."""
        await self._roster.wait_ready(ready)

    def processes(self) -> list[engine_pb2.Process]:
        """The fleet's processes beside the ranks; where the source does not tell them, those that the replicas describe."""
        return self._roster.processes()

    def replicas(self) -> list[fleet_pb2.Replica]:
        """The fleet as last known; where the source does not tell the ranks, those that the replica describes."""
        return self._roster.replicas()

    def standings(self) -> list[Standing]:
        """The same, and how each stands with this router."""
        return self._roster.standings()

    @property
    def queued(self) -> int:
        """Requests that wait for a replica that is ready."""
        return len(self._queue)

    def load(self) -> Load:
        """The sum of what the replicas last told; waiting requests include this router's queue."""
        total = self._roster.load()
        total.waiting += self.queued
        return total

    async def describe(self) -> DescribeResponse:
        """The card of a replica, with this router's epoch, its readiness, and the ranks and processes of all replicas."""
        if self._roster.card is None:
            raise EngineError(grpc.StatusCode.UNAVAILABLE, "no replica has answered yet", reason="NO_REPLICA")
        card = DescribeResponse()
        card.CopyFrom(self._roster.card)
        card.epoch = self.epoch
        card.ready = self.ready
        del card.ranks[:]
        card.ranks.extend(rank for replica in self.replicas() for rank in replica.ranks)
        del card.processes[:]
        card.processes.extend(self.processes())
        return card

    # ------------------------------------------------------------ requests

    async def generate(self, submit: Submit) -> AsyncGenerator[Delta, None]:
        """As Engine.generate; raises EngineError UNAVAILABLE (NO_REPLICA, QUEUE_FULL) or a replica's own."""
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
        return _Request(own, list(own.resume.tokens), own.resume.prompt_logprobs)

    async def _deltas(self, request: _Request) -> AsyncGenerator[Delta, None]:
        """The request's deltas, from as many replicas as it takes."""
        while replica := await self._place(request):
            try:
                async with aclosing(self._attempt(request, replica)) as deltas:
                    async for delta in deltas:
                        yield delta
                return
            except EngineError as error:
                self._survive(request, replica, error)
        yield request.overdue()

    async def _place(self, request: _Request) -> Replica | None:
        """The replica to try next; waits for one where none is ready, until the request's deadline: None."""
        if request.until is None:
            request.look(self._options.queue_wait_s)
        assert request.until is not None
        while True:
            ready = self._roster.ready()
            if candidates := [replica for replica in ready if replica not in request.full]:
                return self._policy(candidates, request.submit)
            if ready:
                raise next(reversed(request.full.values()))
            wait_s = request.until - time.monotonic()
            resumed = request.resumptions > 0 or len(request.output) > 0  # here, or by whoever lost another router
            try:
                await self._queue.wait(wait_s, priority=request.submit.priority, resumed=resumed)
            except EngineError as error:
                if request.until_deadline and error.reason == "NO_REPLICA":
                    return None
                raise

    async def _attempt(self, request: _Request, replica: Replica) -> AsyncGenerator[Delta, None]:
        """Deltas from one replica, counted toward its outstanding tokens while they come."""
        if request.output or request.told:
            request.submit.resume.tokens[:] = request.output
            request.submit.resume.prompt_logprobs = request.told
        share = replica.outstanding.open(request.submit)
        try:
            async with aclosing(replica.generate(request.submit)) as deltas:
                async for delta in deltas:
                    request.until = None
                    if delta.tokens:  # else there is more of the prompt to come
                        share.answered(len(delta.tokens))
                    request.output.extend(delta.tokens)
                    request.told += len(delta.prompt_logprobs)
                    yield delta
        finally:
            share.close()

    def _survive(self, request: _Request, replica: Replica, error: EngineError) -> None:
        """Returns when the request should be tried elsewhere, raises `error` when not."""
        if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            request.full[replica] = error
            return
        if error.code not in MOVES:
            raise error
        if error.reason in REFUSALS:
            if request.until is not None and time.monotonic() > request.until:
                request.full[replica] = error  # it kept the request waiting; whoever else is ready may take it at once
            return
        request.resumptions += 1
        if request.resumptions > self._options.max_resumptions:
            logger.error("given up after %d replicas: %s", request.resumptions, error.message, extra=request.log)
            raise error
        request.until = None  # it has had a replica: it waits for the next one anew
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
