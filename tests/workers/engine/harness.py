"""An engine without its thread: scheduler and fake runner, one step at a time."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.fakes.runner import STOP, VOCAB, FakeRunner
from workers.engine.batch import assemble
from workers.engine.limits import Limits
from workers.engine.report import Output
from workers.engine.request import Key, Request, Sampling
from workers.engine.scheduler import Scheduler

LIMITS = Limits(
    vocab_size=VOCAB,
    stop_token_ids=frozenset({STOP}),
    max_context=64,
    block_size=4,
    kv_blocks=24,
    max_sequences=4,
    token_budget=8,
)
GREEDY = Sampling(temperature=0.0)


class Harness:
    """Collects every output by key; checks on each step that budget and sequences stay within the limits."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.scheduler = Scheduler(limits)
        self.runner = FakeRunner(limits.kv_blocks, limits.block_size)
        self.outputs: dict[Key, list[Output]] = {}

    def submit(self, rid: int, prompt: Sequence[int], sampling: Sampling = GREEDY, **fields: Any) -> Request:
        request = self.limits.accept((0, rid), prompt, sampling, **fields)
        self.scheduler.submit(request)
        return request

    def step(self, now: float = 0.0) -> None:
        chunks = self.scheduler.schedule(now)
        plan = assemble(chunks, self.limits.block_size)
        assert len(plan.tokens) <= self.limits.token_budget
        assert len(plan.context_lengths) <= self.scheduler.running <= self.limits.max_sequences
        for output in self.scheduler.update(chunks, self.runner.execute(plan)):
            self.outputs.setdefault(output.key, []).append(output)

    def run(self, steps: int = 10_000) -> None:
        """Steps until nothing is left to do."""
        for _ in range(steps):
            if not self.scheduler.busy:
                return
            self.step()
        raise AssertionError("the scheduler makes no progress")

    def tokens(self, rid: int) -> list[int]:
        return [token for output in self.outputs.get((0, rid), []) for token in output.tokens]

    def end(self, rid: int) -> object:
        return self.outputs[(0, rid)][-1].end


def limits(**changes: Any) -> Limits:
    return replace(LIMITS, **changes)
