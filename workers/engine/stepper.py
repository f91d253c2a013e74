"""One step after the other, without a thread: what an engine runs in its own, and a simulation on a virtual clock."""

import time
from collections.abc import Callable
from functools import partial

from workers.engine.batch import assemble
from workers.engine.chunk import Chunk
from workers.engine.limits import Limits
from workers.engine.masks import MaskThreads
from workers.engine.plan import Runner
from workers.engine.report import KvEvents, Load, Output, Report
from workers.engine.request import Key, Request
from workers.engine.scheduler import Scheduler
from workers.engine.steps import StepTimes

Aside = Callable[[Callable[[], None], Callable[[], None]], None]
"""Does the first, which takes up to seconds, and then, between two steps, the second."""


def at_once(work: Callable[[], None], then: Callable[[], None]) -> None:
    """Where nobody waits for the next step."""
    work()
    then()


class Stepper:
    """`clock` is what deadlines are on and `timer` what steps are measured by, both in seconds; `aside` renews grammars."""

    def __init__(
        self,
        runner: Runner,
        limits: Limits,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
        aside: Aside = at_once,
    ) -> None:
        self._runner = runner
        self._limits = limits
        self._clock = clock
        self._timer = timer
        self._aside = aside
        self._masks = MaskThreads()
        self._scheduler = Scheduler(limits)
        self._times = StepTimes()
        self._steps = 0
        self._generated = 0

    @property
    def busy(self) -> bool:
        """There is something to compute or to tell."""
        return self._scheduler.busy

    def submit(self, request: Request) -> None:
        """Takes over the request, made by `limits.accept`, whose key no live request has."""
        self._scheduler.submit(request)

    def cancel(self, key: Key) -> None:
        self._scheduler.cancel(key)

    def snapshot(self) -> KvEvents:
        """All that is cached; the reports of later steps tell what changes in it."""
        return self._scheduler.cache.snapshot()

    def step(self) -> Report:
        started = self._timer()
        chunks = self._scheduler.schedule(self._clock())
        plan = assemble(chunks, self._limits, self._masks)
        sampled = self._runner.execute(plan)
        plan.filled()  # grammars go on in this thread, though a runner may not have needed their masks
        outputs = self._scheduler.update(chunks, sampled)
        self._renew()
        return self._report(chunks, outputs, self._timer() - started)

    def _renew(self) -> None:
        for request in self._scheduler.take_stalled():
            self._aside(request.renew, partial(self._scheduler.wake, request))

    def _report(self, chunks: list[Chunk], outputs: list[Output], seconds: float) -> Report:
        if chunks:
            self._steps += 1
            self._times.add(seconds)
        self._generated += sum(len(output.tokens) for output in outputs)
        computed = sum(chunk.length for chunk in chunks)
        return Report(self._load(), tuple(outputs), computed, seconds, self._scheduler.cache.events())

    def _load(self) -> Load:
        scheduler, block_size = self._scheduler, self._limits.block_size
        return Load(
            step=self._steps,
            running=scheduler.running,
            waiting=scheduler.waiting,
            prefill_tokens=scheduler.prefill_tokens,
            kv_tokens_used=scheduler.cache.full.used * block_size,
            kv_tokens_total=self._limits.kv_tokens,
            sliding_tokens_used=scheduler.cache.sliding.used * block_size,
            sliding_tokens_total=scheduler.cache.sliding.total * block_size,
            step_p99_ms=self._times.p99_ms,
            tokens_generated=self._generated,
            preemptions=scheduler.preemptions,
        )
