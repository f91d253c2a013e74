"""The arithmetic of limits, with a clock of the test's own."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.access.ledger import SLOTS_S, Amounts, Ledger, Shortage
from router.access.limits import Limits

DAY_S = 86_400
NOON = 20_000 * DAY_S + DAY_S // 2


def draw(tally: dict[str, Any], need: Amounts, limits: Limits, at: float, holder: str = "a", held: int = 0) -> dict[str, Any]:
    ledger = Ledger(tally, limits, at, holder, held)
    ledger.draw(need)
    return ledger.tally()


def short(tally: dict[str, Any], need: Amounts, limits: Limits, at: float, **more: Any) -> Shortage:
    with pytest.raises(Shortage) as raised:
        draw(tally, need, limits, at, **more)
    return raised.value


def test_a_minutes_limit_drains_at_its_rate() -> None:
    limits = Limits(requests_per_minute=60)
    tally = draw({}, Amounts(requests=60), limits, NOON)
    shortage = short(tally, Amounts(requests=2), limits, NOON + 1)
    assert (shortage.kind, shortage.limit, shortage.wait_s) == ("requests", 60, 1.0)
    assert draw(tally, Amounts(requests=2), limits, NOON + 2)["requests"] == 60


def test_tokens_of_a_minute_and_of_a_day() -> None:
    limits = Limits(tokens_per_minute=100, tokens_per_day=150)
    tally = draw({}, Amounts(tokens=100), limits, NOON)
    assert short(tally, Amounts(tokens=10), limits, NOON).wait_s == 6.0
    budget = short(tally, Amounts(tokens=51), limits, NOON + 60)
    assert (budget.kind, budget.limit, budget.wait_s) == ("day", 150, DAY_S / 2 - 60)
    assert draw(tally, Amounts(tokens=51), limits, NOON + DAY_S / 2)["spent"] == 51


def test_what_no_minute_can_hold_is_not_waited_for() -> None:
    assert short({}, Amounts(tokens=101), Limits(tokens_per_minute=100), NOON).wait_s is None


def test_what_has_begun_may_leave_the_minute_in_debt_and_never_the_day() -> None:
    limits = Limits(tokens_per_minute=100, tokens_per_day=150)
    ledger = Ledger({}, limits, NOON, "a", 0)
    ledger.draw(Amounts(tokens=140), begun=True)
    assert ledger.tally()["tokens"] == 140
    with pytest.raises(Shortage) as raised:
        ledger.draw(Amounts(tokens=11), begun=True)
    assert raised.value.kind == "day"


def test_slots_are_held_by_gateways_and_outlive_them_for_a_while() -> None:
    limits = Limits(concurrent_requests=3)
    tally = draw({}, Amounts(slots=2), limits, NOON, "a")
    assert short(tally, Amounts(slots=2), limits, NOON + SLOTS_S - 1, holder="b").kind == "slots"
    assert draw(tally, Amounts(slots=1), limits, NOON + SLOTS_S - 1, "b")["slots"]["b"][0] == 1
    assert draw(tally, Amounts(slots=3), limits, NOON + SLOTS_S + 1, "b")["slots"] == {"b": (3, NOON + 2 * SLOTS_S + 1)}


def test_a_holder_is_believed_about_its_own_slots() -> None:
    tally = draw({}, Amounts(slots=2), Limits(concurrent_requests=3), NOON, "a")
    assert draw(tally, Amounts(slots=2), Limits(concurrent_requests=3), NOON, "a", held=1)["slots"]["a"][0] == 3


def test_what_comes_back_the_next_day_is_not_the_next_days() -> None:
    limits = Limits(tokens_per_day=100)
    ledger = Ledger(draw({}, Amounts(tokens=80), limits, NOON), limits, NOON, "a", 0)
    ledger.give(Amounts(tokens=30), ledger.day)
    assert ledger.tally()["spent"] == 50
    tomorrow = Ledger(draw(ledger.tally(), Amounts(tokens=60), limits, NOON + DAY_S), limits, NOON + DAY_S, "a", 0)
    tomorrow.give(Amounts(tokens=30), ledger.day)
    assert tomorrow.tally()["spent"] == 60


def test_a_clock_set_back_drains_nothing() -> None:
    limits = Limits(requests_per_minute=60)
    tally = draw({}, Amounts(requests=60), limits, NOON)
    assert short(tally, Amounts(requests=1), limits, NOON - 3600).wait_s == 1.0
    assert draw(tally, Amounts(requests=1), limits, NOON + 1)["requests"] == 60


def test_a_limit_that_is_lowered_holds_at_once() -> None:
    tally = draw({}, Amounts(requests=50), Limits(requests_per_minute=60), NOON)
    assert short(tally, Amounts(requests=1), Limits(requests_per_minute=10), NOON).wait_s == pytest.approx(41 * 6)


def test_what_is_drawn_ahead_shrinks_towards_the_limit() -> None:
    limits = Limits(requests_per_minute=160, tokens_per_day=1600, tokens_per_minute=16_000, concurrent_requests=32)
    assert Ledger({}, limits, NOON, "a", 0).spare() == Amounts(10, 100, 2)
    tally = draw({}, Amounts(150, 1590, 20), limits, NOON)
    assert Ledger(tally, limits, NOON, "a", 20).spare() == Amounts(0, 0, 0)


drawn = st.tuples(st.integers(0, 40), st.integers(0, 3), st.floats(0, 40), st.sampled_from("ab"))


@given(st.lists(drawn, max_size=60))
def test_a_day_is_never_overdrawn_and_no_minute_beyond_twice_its_limit(steps: list[tuple[int, int, float, str]]) -> None:
    limits = Limits(tokens_per_minute=60, tokens_per_day=400)
    tally: dict[str, Any] = {}
    taken: list[tuple[float, int]] = []
    at = NOON - 600.0
    for tokens, back, pause, holder in steps:
        at += pause
        ledger = Ledger(tally, limits, at, holder, 0)
        try:
            ledger.draw(Amounts(tokens=tokens))
        except Shortage:
            continue
        ledger.give(Amounts(tokens=min(back, tokens)), ledger.day)
        taken.append((at, tokens - min(back, tokens)))
        tally = ledger.tally()
    assert sum(tokens for _, tokens in taken) <= 400
    for begin, _ in taken:
        assert sum(tokens for when, tokens in taken if begin <= when < begin + 60) <= 120
