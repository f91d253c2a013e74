"""The step loop of a replica, in a thread of its own. Commands come in by a queue, reports go out by a callback."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue

from workers.engine.batch import Chunk, assemble
from workers.engine.limits import Limits
from workers.engine.plan import Runner
from workers.engine.report import Load, Output, Report
from workers.engine.request import Key, Request
from workers.engine.scheduler import Scheduler
from workers.engine.steps import StepTimes
from workers.engine.thread import run_in_thread


class Engine:
    """Runs `runner` step after step while there are requests, and every `beat_s` seconds while there are none.

    `publish` is called in the step thread after every step; it must be quick and must not raise. `done` resolves when the loop
    has ended: with the runner's exception where it failed. What is submitted after that is never answered.
    """

    def __init__(
        self,
        runner: Runner,
        limits: Limits,
        publish: Callable[[Report], None],
        beat_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits
        self.done: Future[None] = Future()
        self._runner = runner
        self._publish = publish
        self._beat_s = beat_s
        self._clock = clock
        self._scheduler = Scheduler(limits)
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._times = StepTimes()
        self._steps = 0
        self._generated = 0

    def start(self) -> None:
        run_in_thread("steps", self._run, self.done)

    def submit(self, request: Request) -> None:
        """Takes over the request, made by `limits.accept`, whose key no live request has. Any thread."""
        self._inbox.put(partial(self._scheduler.submit, request))

    def cancel(self, key: Key) -> None:
        """Ends the request before the next step. Any thread."""
        self._inbox.put(partial(self._scheduler.cancel, key))

    def close(self) -> None:
        """Ends the loop after the step at hand, whatever runs, and closes the runner. Any thread; `done` tells when."""
        self._inbox.put(None)

    def _run(self) -> None:
        while self._receive():
            self._step()
        self._runner.close()

    def _receive(self) -> bool:
        """Applies the commands that have come, waiting up to a beat for one while idle; False when told to close."""
        try:
            command = self._inbox.get(block=not self._scheduler.busy, timeout=self._beat_s)
            while command is not None:
                command()
                command = self._inbox.get(block=False)
        except Empty:
            return True
        return False

    def _step(self) -> None:
        started = time.perf_counter()
        chunks = self._scheduler.schedule(self._clock())
        sampled = self._runner.execute(assemble(chunks, self.limits.block_size))
        outputs = self._scheduler.update(chunks, sampled)
        self._publish(self._report(chunks, outputs, time.perf_counter() - started))

    def _report(self, chunks: list[Chunk], outputs: list[Output], seconds: float) -> Report:
        if chunks:
            self._steps += 1
            self._times.add(seconds)
        self._generated += sum(len(output.tokens) for output in outputs)
        return Report(self._load(), tuple(outputs), sum(chunk.stop - chunk.start for chunk in chunks), seconds)

    def _load(self) -> Load:
        scheduler, block_size = self._scheduler, self.limits.block_size
        return Load(
            step=self._steps,
            running=scheduler.running,
            waiting=scheduler.waiting,
            prefill_tokens=scheduler.prefill_tokens,
            kv_tokens_used=scheduler.pool.used * block_size,
            kv_tokens_total=self.limits.kv_tokens,
            step_p99_ms=self._times.p99_ms,
            tokens_generated=self._generated,
            preemptions=scheduler.preemptions,
        )
