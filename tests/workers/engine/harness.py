"""An engine without its thread: scheduler and fake runner, one step at a time, every block accounted for after each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.fakes.runner import STOP, VOCAB, FakeRunner
from workers.engine.batch import assemble
from workers.engine.limits import Limits
from workers.engine.pool import BlockPool
from workers.engine.report import Output
from workers.engine.request import Key, Request
from workers.engine.sampling import Sampling
from workers.engine.scheduler import Scheduler

TURN = 5
LIMITS = Limits(
    vocab_size=VOCAB,
    stop_token_ids=frozenset({STOP}),
    max_context=64,
    block_size=4,
    kv_blocks=24,
    sliding_blocks=24,
    window=6,
    max_sequences=4,
    token_budget=8,
    turn_token_id=TURN,
)
GREEDY = Sampling(temperature=0.0)


class Harness:
    """Collects every output by key, and the names of cached blocks from events alone."""

    def __init__(self, limits: Limits = LIMITS, memory: int | None = None) -> None:
        self.limits = limits
        self.scheduler = Scheduler(limits)
        self.runner = FakeRunner(
            limits.kv_blocks,
            limits.block_size,
            sliding_blocks=limits.sliding_blocks,
            window=limits.window,
            memory=memory,
        )
        self.outputs: dict[Key, list[Output]] = {}
        self.requests: list[Request] = []
        self.stalled: list[Request] = []
        self._cached: tuple[set[bytes], set[bytes]] = (set(), set())
        self._contexts: dict[bytes, int] = {}

    def submit(self, rid: int, prompt: Sequence[int], sampling: Sampling = GREEDY, **fields: Any) -> Request:
        request = self.limits.accept((0, rid), prompt, sampling, **fields)
        self.requests.append(request)
        self.scheduler.submit(request)
        return request

    def step(self, now: float = 0.0) -> None:
        chunks = self.scheduler.schedule(now)
        plan = assemble(chunks, self.limits)
        assert len(plan.tokens) <= self.limits.token_budget
        assert len(plan.context_lengths) <= self.scheduler.running <= self.limits.max_sequences
        for output in self.scheduler.update(chunks, self.runner.execute(plan)):
            self.outputs.setdefault(output.key, []).append(output)
        self.stalled += self.scheduler.take_stalled()
        self.audit()

    def renew(self) -> None:
        """Lets the request go on that has been stalled for longest."""
        request = self.stalled.pop(0)
        request.renew()
        self.scheduler.wake(request)

    def run(self, steps: int = 10_000) -> None:
        """Steps until nothing is left to do."""
        for _ in range(steps):
            while self.stalled:
                self.renew()
            if not self.scheduler.busy:
                return
            self.step()
        raise AssertionError("the scheduler makes no progress")

    @property
    def computed(self) -> int:
        """Tokens that all steps computed."""
        return sum(len(plan.tokens) for plan in self.runner.plans)

    def tokens(self, rid: int) -> list[int]:
        return [token for output in self.outputs.get((0, rid), []) for token in output.tokens]

    def end(self, rid: int) -> object:
        return self.outputs[(0, rid)][-1].end

    def usage(self, rid: int) -> Any:
        return self.outputs[(0, rid)][-1].usage

    def audit(self) -> None:
        """Holders are those of the tables, names those of the events, and a name means one context in both groups."""
        cache, events = self.scheduler.cache, self.scheduler.cache.events()
        audit_pool(cache.full, Counter(block for r in self.requests for block in r.blocks.array.tolist()))
        audit_pool(cache.sliding, Counter(block for r in self.requests for block in r.sliding))
        full, sliding = self._cached
        if events is not None:
            for mirror, removed, stored in (
                (full, events.full_removed, events.full_stored),
                (sliding, events.sliding_removed, events.sliding_stored),
            ):
                assert mirror.issuperset(removed)
                mirror.difference_update(removed)
                assert mirror.isdisjoint(stored)
                mirror.update(stored)
        snapshot = cache.snapshot()
        assert (set(snapshot.full_stored), set(snapshot.sliding_stored)) == (full, sliding)
        for pool, cells in ((cache.full, self.runner._full), (cache.sliding, self.runner._sliding)):
            for name, block in pool._named.items():
                last = (block + 1) * self.limits.block_size - 1
                assert self._contexts.setdefault(name, int(cells.chains[last])) == int(cells.chains[last])


def audit_pool(pool: BlockPool, tables: Counter[int]) -> None:
    """Every block has as many holders as tables have it, and is held, idle or free."""
    assert {block: count for block, count in enumerate(pool._holders) if count} == dict(tables)
    assert pool.used == len(tables)
    named = {block for block, name in enumerate(pool._names) if name is not None}
    assert named == set(pool._named.values())
    assert set(pool._idle) == named - set(tables)
    assert sorted([*pool._free, *pool._idle, *tables]) == list(range(pool.total))


def limits(**changes: Any) -> Limits:
    return replace(LIMITS, **changes)
