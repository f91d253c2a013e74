"""Chooses what each step computes: a pure function of its own state and of the time that is handed in. Runs nothing."""

from bisect import insort
from collections.abc import Iterator, Sequence
from heapq import merge

from workers.engine.cache import KvCache
from workers.engine.chunk import Chunk, prefill
from workers.engine.drafts import draft
from workers.engine.errors import Cause, Refusal
from workers.engine.guarded import Guarded
from workers.engine.limits import Limits
from workers.engine.outcome import Outcome, ending, outcomes, usage
from workers.engine.plan import Sampled
from workers.engine.report import Output
from workers.engine.request import Finish, Key, Request, by_rank

SCORED_ROWS = 64  # prompt tokens scored in a step: each takes a row of logits as wide as the vocabulary


class Scheduler:
    """Continuous batching under one token budget a step: decodes, then prefills in chunks, then drafts; all by rank.

    A request whose next block is being computed for another waits for it, and lets those behind it pass. Any other is admitted
    with full blocks for every token it has, so only decodes ask for more. When none is to be had, the running request of the
    lowest rank gives its blocks back and waits to be computed again, from where they are still cached. The one of the highest
    rank is never asked to while others run, and `Limits` accepts nobody who does not fit alone: so there is always progress.

    A request whose grammar is stalled gives its blocks back, too, and waits to be woken.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.cache = KvCache(limits.geometry, limits.kv_blocks, limits.sliding_blocks)
        self.preemptions = 0
        self._requests: dict[Key, Request] = {}
        self._waiting: list[Request] = []  # by rank
        self._running: list[Request] = []  # by rank
        self._stalled: list[Request] = []  # until they are woken
        self._untold: list[Request] = []  # of the stalled, those that `take_stalled` has not named
        self._ended: list[Output] = []  # since the last update
        self._arrivals = 0

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._stalled)

    @property
    def busy(self) -> bool:
        """There is something to compute or to tell."""
        return bool(len(self._requests) > len(self._stalled) or self._ended)

    @property
    def prefill_tokens(self) -> int:
        """Tokens still to prefill, over all requests."""
        return sum(request.uncomputed for request in self._requests.values() if request.uncomputed > 1)

    @property
    def _prefilling(self) -> list[Request]:
        return [request for request in self._running if request.uncomputed > 1]

    def submit(self, request: Request) -> None:
        """Queues a request; its end is told by the next update, at once where nothing is left to do or the queue is full.

        A full queue takes requests with resumed output all the same: their clients have been promised the rest.
        """
        assert request.key not in self._requests, f"duplicate request {request.key!r}"
        self._arrivals += 1
        request.arrival = self._arrivals
        if request.finish is not None:
            self._ended.append(ending(request, request.finish))
        elif self.waiting >= self.limits.max_waiting and not len(request.output):
            message = f"{self.waiting} requests wait already"
            refusal = Refusal(Cause.EXHAUSTED, message, reason="QUEUE_FULL", retry_after_s=1.0)
            self._ended.append(ending(request, refusal))
        else:
            if request.grammar is not None:
                request.grammar = Guarded(request.grammar, self.limits.vocab_size)
            self._requests[request.key] = request
            self._queue(request)

    def cancel(self, key: Key) -> None:
        """Ends a request and gives its blocks back now; unknown keys are ignored, for the request may just have ended."""
        request = self._requests.get(key)
        if request is not None:
            self._end(request, Finish.CANCELLED)

    def take_stalled(self) -> list[Request]:
        """Requests that go on once `renew` has been called on them, off this thread, and then `wake`; each is named once."""
        stalled, self._untold = self._untold, []
        return stalled

    def wake(self, request: Request) -> None:
        """A stalled request has been renewed; it may have ended meanwhile."""
        if request in self._stalled:
            self._stalled.remove(request)
            self._queue(request)

    def schedule(self, now: float) -> list[Chunk]:
        """What to compute next, none where there is nothing. Must be followed by `update` with the same chunks."""
        self._expire(now)
        decodes = [request for request in list(self._running) if request.uncomputed == 1 and self._grow(request)]
        prefills = list(self._prefills(self.limits.token_budget - len(decodes)))
        left = self.limits.token_budget - len(decodes) - sum(chunk.length for chunk in prefills)
        return [*self._decodes(decodes, left), *prefills]

    def update(self, chunks: Sequence[Chunk], sampled: Sampled) -> list[Output]:
        """Takes in what a step computed and says what changed, earlier ends first."""
        outputs, self._ended = self._ended, []
        for chunk, outcome in outcomes(chunks, sampled):
            output = self._advance(chunk, outcome)
            if output.tokens or output.prompt_logprobs or output.end:
                outputs.append(output)
        return outputs

    def _expire(self, now: float) -> None:
        late = [r for r in self._requests.values() if r.deadline_s is not None and r.deadline_s <= now]
        for request in late:
            self._end(request, Finish.DEADLINE)

    def _grow(self, request: Request) -> bool:
        """Makes a place for the request's last token; False where the request is, or has become, one that waits."""
        while len(request.blocks) and self.cache.lacks(request):
            self._preempt(self._running[-1])
        if not len(request.blocks):
            return False
        self.cache.grow(request, request.length)
        return True

    def _preempt(self, request: Request) -> None:
        self._release(request)
        self._queue(request)
        self.preemptions += 1

    def _queue(self, request: Request) -> None:
        insort(self._waiting, request, key=by_rank)
        for other in self._prefilling:
            self.cache.part(other, request)

    def _prefills(self, budget: int) -> Iterator[Chunk]:
        candidates, rows = self._candidates(), SCORED_ROWS
        while budget and (request := next(candidates, None)):
            room = self.cache.reach(request, self._running) - request.computed
            chunk = prefill(request, min(budget, room), rows)
            if chunk.length:
                self.cache.grow(request, chunk.stop)
                budget, rows = budget - chunk.length, rows - len(chunk.scores)
                yield chunk

    def _candidates(self) -> Iterator[Request]:
        """By rank, running requests whose prefill goes on and waiting ones, which are admitted as they are asked for."""
        prefilling, admitting = self._prefilling, True
        for request in merge(list(prefilling), list(self._waiting), key=by_rank):
            if len(request.blocks):
                yield request
            elif admitting and not self.cache.awaits(request, prefilling):
                admitting = self.running < self.limits.max_sequences and self._admit(request)
                if admitting:
                    prefilling.append(request)
                    yield request

    def _admit(self, request: Request) -> bool:
        hit = self.cache.match(request)
        if not self.cache.fits(request, hit, self._running):
            return False
        self.cache.open(request, hit)
        if request.cached is None:
            request.cached = min(request.computed, request.prompt_tokens)
        self._waiting.remove(request)
        insort(self._running, request, key=by_rank)
        for other in self._waiting[: self.limits.max_sequences]:
            self.cache.part(request, other)
        return True

    def _decodes(self, requests: Sequence[Request], left: int) -> Iterator[Chunk]:
        """The decodes, with as many drafts as `left` tokens of the budget and free blocks allow."""
        look_up = len(requests) <= self.limits.draft_sequences
        for request in requests:
            drafts = draft(request, min(left, request.more - 1, self.limits.draft_tokens), look_up)
            if drafts.tokens:
                drafts = drafts.first(self.cache.reach(request, self._running) - request.length)
                self.cache.grow(request, request.length + len(drafts.tokens))
                left -= len(drafts.tokens)
            yield Chunk(request, request.computed, request.length, drafts)

    def _advance(self, chunk: Chunk, outcome: Outcome) -> Output:
        """Brings the chunk's request up to date."""
        request, first_index = chunk.request, len(chunk.request.output)
        if drafted := len(chunk.drafts.tokens):
            request.learn(drafted, outcome.accepted, chunk.drafts.looked_up)
        request.scored = max(request.scored, chunk.scores.stop)
        computed = request.length + len(outcome.tokens) - 1 if chunk.samples else chunk.stop
        request.extend(outcome.tokens)
        self.cache.settle(request, computed)
        end = outcome.end or request.finish
        if end is not None:
            self._forget(request, broken=isinstance(end, Refusal))
        elif request.stalled:
            self._stall(request)
        told = usage(request) if isinstance(end, Finish) else None
        return Output(request.key, first_index, outcome.tokens, outcome.logprobs, end, told, outcome.prompt_logprobs)

    def _stall(self, request: Request) -> None:
        self._release(request)
        self._stalled.append(request)
        self._untold.append(request)

    def _end(self, request: Request, finish: Finish) -> None:
        self._forget(request)
        self._ended.append(ending(request, finish))

    def _forget(self, request: Request, broken: bool = False) -> None:
        """Nothing is left of the request, nor, where it is broken, of what it computed."""
        del self._requests[request.key]
        if broken:
            self.cache.disown(request)
        if len(request.blocks):
            self._release(request)
        else:
            (self._stalled if request in self._stalled else self._waiting).remove(request)

    def _release(self, request: Request) -> None:
        """Takes a running request's blocks away, and its place."""
        self._running.remove(request)
        self.cache.close(request)
