"""How long short lives are waited for."""

from cluster.backoff import Backoff


def test_short_lives_double_the_wait_up_to_half_a_minute() -> None:
    backoff = Backoff()
    assert [backoff.after(0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_life_of_a_minute_starts_it_over() -> None:
    backoff = Backoff()
    for _ in range(8):
        backoff.after(59.9)
    assert [backoff.after(lived_s) for lived_s in (60.0, 0, 0)] == [0.5, 1, 2]
