"""Chooses what each step computes: a pure function of its own state and of the time that is handed in. Runs nothing."""

from bisect import insort
from collections.abc import Iterator, Sequence

from workers.engine.batch import Chunk
from workers.engine.errors import Cause, Refusal
from workers.engine.limits import Limits
from workers.engine.plan import Sampled
from workers.engine.pool import BlockPool
from workers.engine.report import Output, TokenLogprobs, Usage
from workers.engine.request import Finish, Key, Request

NOT_FINITE = "the model's logits are not finite numbers"


class Scheduler:
    """Continuous batching under one token budget a step: decodes first, then prefills in chunks, both by rank.

    A request is admitted with blocks for every token it has, so only decodes ask for more. When none is free, the running
    request of the lowest rank gives its blocks back and waits to be computed again. The one of the highest rank is never
    asked to while others run, and `Limits` accepts nobody who does not fit alone: so there is always progress.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.pool = BlockPool(limits.kv_blocks)
        self.preemptions = 0
        self._requests: dict[Key, Request] = {}
        self._waiting: list[Request] = []  # by rank
        self._running: list[Request] = []  # by rank
        self._ended: list[Output] = []  # since the last update
        self._arrivals = 0

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """There is something to compute or to tell."""
        return bool(self._requests or self._ended)

    @property
    def prefill_tokens(self) -> int:
        """Tokens still to prefill, over all requests."""
        return sum(request.uncomputed for request in self._requests.values() if request.uncomputed > 1)

    def submit(self, request: Request) -> None:
        """Queues a request; its end is told by the next update, at once where a resumption is complete or the queue is full.

        A full queue takes requests with resumed output all the same: their clients have been promised the rest.
        """
        assert request.key not in self._requests, f"duplicate request {request.key!r}"
        self._arrivals += 1
        request.arrival = self._arrivals
        if request.finish is not None:
            self._ended.append(_ending(request, request.finish))
        elif self.waiting >= self.limits.max_waiting and not request.output:
            message = f"{self.waiting} requests wait already"
            refusal = Refusal(Cause.EXHAUSTED, message, reason="QUEUE_FULL", retry_after_s=1.0)
            self._ended.append(_ending(request, refusal))
        else:
            self._requests[request.key] = request
            insort(self._waiting, request, key=_rank)

    def cancel(self, key: Key) -> None:
        """Ends a request and frees its blocks now; unknown keys are ignored, for the request may just have ended."""
        request = self._requests.get(key)
        if request is not None:
            self._end(request, Finish.CANCELLED)

    def schedule(self, now: float) -> list[Chunk]:
        """What to compute next, none where there is nothing. Must be followed by `update` with the same chunks."""
        self._expire(now)
        chunks = self._decodes()
        budget = self.limits.token_budget - len(chunks)
        prefills = self._prefills()
        while budget and (request := next(prefills, None)):
            count = min(request.uncomputed, budget)
            chunks.append(Chunk(request, request.computed, request.computed + count))
            budget -= count
        return chunks

    def update(self, chunks: Sequence[Chunk], sampled: Sampled) -> list[Output]:
        """Takes in what a step computed and says what changed, earlier ends first."""
        outputs, self._ended = self._ended, []
        row = 0
        for chunk in chunks:
            samples = chunk.samples
            chunk.request.computed = chunk.stop
            if samples:
                outputs.append(self._append(chunk.request, sampled, row))
                row += 1
        return outputs

    def _expire(self, now: float) -> None:
        late = [r for r in self._requests.values() if r.deadline_s is not None and r.deadline_s <= now]
        for request in late:
            self._end(request, Finish.DEADLINE)

    def _decodes(self) -> list[Chunk]:
        """One token of each running request that has a single one to compute."""
        decodes = [request for request in self._running if request.uncomputed == 1]
        return [Chunk(request, request.computed, request.length) for request in decodes if self._grow(request)]

    def _grow(self, request: Request) -> bool:
        """Makes room for the request's last token; False where the request is, or has become, one that waits."""
        while request.blocks and self._lacks(request) > self.pool.free:
            self._preempt(self._running[-1])
        if request.blocks:
            request.blocks += self.pool.take(self._lacks(request))
        return bool(request.blocks)

    def _preempt(self, request: Request) -> None:
        self._release(request)
        request.computed = 0
        insort(self._waiting, request, key=_rank)
        self.preemptions += 1

    def _prefills(self) -> Iterator[Request]:
        """Running requests whose prefill goes on, then waiting ones, admitted as they are asked for."""
        yield from [request for request in self._running if request.uncomputed > 1]
        while self._waiting and self._fits(self._waiting[0]):
            request = self._waiting.pop(0)
            request.blocks = self.pool.take(self._lacks(request))
            insort(self._running, request, key=_rank)
            yield request

    def _fits(self, request: Request) -> bool:
        """One block stays free for each that runs, or the next decode would undo the admission."""
        return self.running < self.limits.max_sequences and self._lacks(request) + self.running <= self.pool.free

    def _lacks(self, request: Request) -> int:
        """Blocks to take before every token of the request has a place."""
        return self.limits.blocks(request.length) - len(request.blocks)

    def _append(self, request: Request, sampled: Sampled, row: int) -> Output:
        index, token = len(request.output), int(sampled.tokens[row])
        if token < 0:
            self._forget(request)
            return _ending(request, Refusal(Cause.BROKEN, NOT_FINITE, reason="LOGITS_NOT_FINITE"))
        request.output.append(token)
        logprobs = (_logprobs(sampled, row),) if request.sampling.logprobs >= 0 else ()
        finish = request.finish
        if finish is not None:
            self._forget(request)
        return Output(request.key, index, (token,), logprobs, finish, _usage(request) if finish else None)

    def _end(self, request: Request, finish: Finish) -> None:
        self._forget(request)
        self._ended.append(_ending(request, finish))

    def _forget(self, request: Request) -> None:
        del self._requests[request.key]
        if request.blocks:
            self._release(request)
        else:
            self._waiting.remove(request)

    def _release(self, request: Request) -> None:
        """Takes a running request's blocks away, and its place."""
        self._running.remove(request)
        self.pool.give(request.blocks)
        request.blocks = []


def _rank(request: Request) -> tuple[int, int]:
    return request.rank


def _usage(request: Request) -> Usage:
    return Usage(len(request.prompt), len(request.output))


def _ending(request: Request, end: Finish | Refusal) -> Output:
    return Output(request.key, len(request.output), end=end, usage=_usage(request) if isinstance(end, Finish) else None)


def _logprobs(sampled: Sampled, row: int) -> TokenLogprobs:
    alternatives = tuple(sampled.top_ids[row].tolist()), tuple(sampled.top_logprobs[row].tolist())
    return TokenLogprobs(float(sampled.logprobs[row]), *alternatives)
