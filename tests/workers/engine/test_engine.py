"""The step loop in its thread."""

import time
from queue import SimpleQueue
from threading import Semaphore

import pytest

from tests.fakes.runner import FakeRunner, generate
from tests.workers.engine.harness import GREEDY, LIMITS
from workers.engine.engine import Engine
from workers.engine.plan import Plan, Sampled
from workers.engine.report import Report
from workers.engine.request import Finish
from workers.engine.sampling import Sampling
from workers.engine.stepper import Stepper
from workers.engine.steps import StepTimes

TIMEOUT_S = 30


class Running:
    """An engine whose reports can be waited for."""

    def __init__(self, beat_s: float = 1000.0, gate: Semaphore | None = None, fail_at: int | None = None) -> None:
        self.reports: SimpleQueue[Report] = SimpleQueue()
        self.runner = FakeRunner(LIMITS.kv_blocks, LIMITS.block_size, gate, fail_at, window=LIMITS.window)
        self.engine = Engine(self.runner, LIMITS, self.reports.put, beat_s)
        self.engine.start()

    def submit(self, rid: int, prompt: list[int], sampling: Sampling = GREEDY) -> None:
        self.engine.submit(LIMITS.accept((0, rid), prompt, sampling))

    def report(self) -> Report:
        return self.reports.get(timeout=TIMEOUT_S)

    def close(self) -> None:
        self.engine.close()
        self.engine.done.result(TIMEOUT_S)


def test_requests_run_to_their_end_and_the_runner_is_closed() -> None:
    running = Running()
    running.submit(0, [5, 6], Sampling(temperature=0.0, max_tokens=6))
    tokens: list[int] = []
    report = running.report()
    tokens += report.outputs[0].tokens
    while report.outputs[0].end is None:
        assert report.load.kv_tokens_used > 0
        report = running.report()
        tokens += report.outputs[0].tokens
    assert tokens == generate([5, 6], 6)
    assert (report.load.running, report.load.kv_tokens_used, report.load.tokens_generated) == (0, 0, len(tokens))
    assert report.load.step == len(tokens)
    assert report.load.step_p99_ms > 0
    running.close()
    assert running.runner.closed


def test_a_cancel_lands_between_two_steps() -> None:
    gate = Semaphore(0)
    running = Running(gate=gate)
    running.submit(0, [5] * 4)
    gate.release()
    first = running.report()
    assert (first.load.step, first.load.running) == (1, 1)
    running.engine.cancel((0, 0))
    gate.release(100)
    report = running.report()
    while not (report.outputs and report.outputs[0].end):
        report = running.report()
    assert report.outputs[0].end is Finish.CANCELLED
    assert report.load.step <= 2
    assert report.load.kv_tokens_used == 0
    running.close()


def test_an_idle_engine_beats_and_its_step_counter_stands() -> None:
    running = Running(beat_s=0.01)
    reports = [running.report() for _ in range(3)]
    assert [(report.load.step, report.step_tokens, report.outputs) for report in reports] == [(0, 0, ())] * 3
    assert all(len(plan.tokens) == 0 for plan in running.runner.plans)
    running.close()


def test_an_idle_engine_does_nothing_between_beats() -> None:
    running = Running(beat_s=1000.0)
    time.sleep(0.05)
    assert running.runner.plans == []
    running.close()


def test_a_failing_runner_ends_the_loop_with_its_error() -> None:
    running = Running(fail_at=1)
    running.submit(0, [5, 6])
    with pytest.raises(RuntimeError, match="a rank is lost"):
        running.engine.done.result(TIMEOUT_S)


def test_a_snapshot_and_the_reports_behind_it_tell_what_is_cached() -> None:
    running = Running()
    running.submit(0, list(range(10, 30)), Sampling(temperature=0.0, max_tokens=6, ignore_eos=True))
    report = running.report()
    while not report.outputs:
        report = running.report()
    snapshot = running.engine.snapshot().result(TIMEOUT_S)
    reports = [running.report()]
    while not reports[-1].outputs[0].end:
        reports.append(running.report())
    cached, sequence = set(snapshot.full_stored), snapshot.sequence
    for events in (report.kv for report in reports if report.kv is not None and report.kv.sequence > snapshot.sequence):
        cached = cached.difference(events.full_removed).union(events.full_stored)
        sequence += 1
        assert events.sequence == sequence
    last = running.engine.snapshot().result(TIMEOUT_S)
    assert (last.snapshot, last.sequence, set(last.full_stored)) == (True, sequence, cached)
    assert len(cached) == 25 // LIMITS.block_size
    running.close()


def test_a_snapshot_that_nobody_waits_for_stops_nothing() -> None:
    gate = Semaphore(0)
    running = Running(gate=gate)
    running.submit(0, [5], Sampling(temperature=0.0, max_tokens=2, ignore_eos=True))
    while not running.runner.plans:
        time.sleep(0.001)
    assert running.engine.snapshot().cancel()
    gate.release(2)
    assert [running.report().outputs[0].end for _ in range(2)] == [None, Finish.LENGTH]
    running.close()


def test_a_virtual_clock_drives_steps_without_a_thread() -> None:
    now = [0.0]

    class Slow(FakeRunner):
        def execute(self, plan: Plan) -> Sampled:
            now[0] += 0.25
            return super().execute(plan)

    stepper = Stepper(Slow(24, 4, window=LIMITS.window), LIMITS, clock=lambda: now[0], timer=lambda: now[0])
    stepper.submit(LIMITS.accept((0, 0), [9], GREEDY, deadline_s=1.0))
    reports = []
    while stepper.busy:
        reports.append(stepper.step())
    assert [report.step_s for report in reports] == [0.25] * 5
    assert reports[-1].outputs[0].end is Finish.DEADLINE
    assert reports[-1].load.step_p99_ms == 250.0


def test_p99_is_the_nearest_rank_over_the_window() -> None:
    times = StepTimes(window=100)
    assert times.p99_ms == 0.0
    for millisecond in range(1, 201):
        times.add(millisecond / 1e3)
    assert times.p99_ms == pytest.approx(199.0)
