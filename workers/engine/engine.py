"""The step loop of a replica, in a thread of its own. Commands come in by a queue, reports go out by a callback."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue

from workers.engine.limits import Limits
from workers.engine.plan import Runner
from workers.engine.report import KvEvents, Report
from workers.engine.request import Key, Request
from workers.engine.stepper import Stepper
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
        self._stepper = Stepper(runner, limits, clock, aside=self._aside)
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def start(self) -> None:
        run_in_thread("steps", self._run, self.done)

    def submit(self, request: Request) -> None:
        """Takes over the request, made by `limits.accept`, whose key no live request has. Any thread."""
        self._inbox.put(partial(self._stepper.submit, request))

    def cancel(self, key: Key) -> None:
        """Ends the request before the next step. Any thread."""
        self._inbox.put(partial(self._stepper.cancel, key))

    def snapshot(self) -> Future[KvEvents]:
        """What is cached between two steps: reports with a greater `kv.sequence` tell what changes in it. Any thread."""
        taken: Future[KvEvents] = Future()
        self._inbox.put(partial(self._answer, taken))
        return taken

    def close(self) -> None:
        """Ends the loop after the step at hand, whatever runs, and closes the runner. Any thread; `done` tells when."""
        self._inbox.put(None)

    def _answer(self, taken: Future[KvEvents]) -> None:
        if taken.set_running_or_notify_cancel():  # who asked may be gone
            taken.set_result(self._stepper.snapshot())

    def _aside(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        done: Future[None] = Future()
        done.add_done_callback(lambda _: self._inbox.put(then))
        run_in_thread("renewal", work, done)

    def _run(self) -> None:
        while self._receive():
            self._publish(self._stepper.step())
        self._runner.close()

    def _receive(self) -> bool:
        """Applies the commands that have come, waiting up to a beat for one while idle; False when told to close."""
        try:
            command = self._inbox.get(block=not self._stepper.busy, timeout=self._beat_s)
            while command is not None:
                command()
                command = self._inbox.get(block=False)
        except Empty:
            return True
        return False
