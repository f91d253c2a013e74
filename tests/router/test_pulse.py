"""When an engine counts as stalled, on a clock of our own."""

from router.pulse import Pulse


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_floor_holds_for_quick_steps() -> None:
    clock = Clock()
    pulse = Pulse(10, clock)
    for step in range(1, 50):
        clock.now += 0.01
        pulse.beat(step, delivered=True)
    assert pulse.due == clock.now + 10


def test_slow_steps_are_given_twenty_times_their_p99() -> None:
    clock = Clock()
    pulse = Pulse(10, clock)
    for step in range(1, 50):
        clock.now += 2
        pulse.beat(step, delivered=True)
    assert pulse.p99_s == 2
    assert pulse.due == clock.now + 40


def test_one_frame_for_many_steps_counts_each() -> None:
    clock = Clock()
    pulse = Pulse(10, clock)
    clock.now += 8
    pulse.beat(4, delivered=True)
    assert pulse.p99_s == 2


def test_a_counter_that_stands_still_proves_nothing() -> None:
    clock = Clock()
    pulse = Pulse(10, clock)
    pulse.beat(1, delivered=False)
    due = pulse.due
    clock.now += 5
    pulse.beat(1, delivered=False)
    assert pulse.due == due
    pulse.beat(1, delivered=True)  # tokens do
    assert pulse.due == due + 5


def test_a_pause_is_no_step() -> None:
    clock = Clock()
    pulse = Pulse(10, clock)
    pulse.beat(1, delivered=True)
    clock.now += 1000
    pulse.restart()
    clock.now += 0.5
    pulse.beat(2, delivered=True)
    assert pulse.p99_s == 0.5
