"""Drafts change how soon tokens come, never which."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.runner import STOP, alone
from tests.workers.engine.harness import Harness, limits
from workers.engine.drafts import LONGEST, SHORTEST, lookup
from workers.engine.pace import LONGEST_PAUSE, Pace
from workers.engine.sampling import Sampling

NARROW = tuple((token, 50.0) for token in (20, 21, 22))  # hardly any other token is sampled
tokens = st.lists(st.integers(0, 3), min_size=1, max_size=60)


@given(tokens, st.integers(1, 8))
def test_what_followed_the_longest_suffix_that_came_before_follows_it_again(sequence: list[int], count: int) -> None:
    expected: list[int] = []
    for length in range(SHORTEST, LONGEST + 1):
        suffix = sequence[-length:]
        ends = [end for end in range(length, len(sequence)) if sequence[end - length : end] == suffix]
        if ends:
            period = sequence[ends[-1] :]
            expected = (period * count)[:count]
    assert lookup(np.array(sequence, np.int32), count) == expected


def test_a_look_up_in_the_longest_context_takes_little() -> None:
    sequence = np.random.default_rng(0).integers(0, 20, 131072).astype(np.int32)
    took = []
    for _ in range(5):
        started = time.perf_counter()
        lookup(sequence, 8)
        took.append(time.perf_counter() - started)
    assert min(took) < 0.02


def test_the_pace_doubles_with_every_success_and_pauses_longer_with_every_miss() -> None:
    pace = Pace()
    assert pace.drafts(0) == 2
    pace.learn(2, 2, 10)
    assert pace.drafts(10) == 4
    pace.learn(4, 1, 12)
    assert pace.drafts(12) == 1
    at, pauses = 20, []
    for _ in range(12):
        pace.learn(1, 0, at)
        pauses.append(next(pause for pause in range(1000) if pace.drafts(at + pause)))
    assert pauses[:3] == [2, 4, 8]
    assert pauses[-1] == LONGEST_PAUSE
    at += LONGEST_PAUSE
    pace.learn(1, 1, at)
    assert pace.drafts(at) == 2
    pace.learn(2, 0, at)
    assert (pace.drafts(at + 1), pace.drafts(at + 2)) == (0, 1)  # the misses before the success are forgotten


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_an_output_that_repeats_itself_takes_fewer_steps_and_is_the_same(temperature: float) -> None:
    sampling = Sampling(temperature=temperature, seed=1, max_tokens=50, ignore_eos=True, logit_bias=NARROW)
    plans = []
    for sequences in (0, 4):
        harness = Harness(limits(draft_sequences=sequences), memory=1)
        harness.submit(0, [9], sampling)
        harness.run()
        assert harness.tokens(0) == alone([9], sampling, (), memory=1)
        usage = harness.usage(0)
        assert usage.accepted_tokens <= usage.drafted_tokens
        assert len(harness.runner.plans) + usage.accepted_tokens == 50
        plans.append(len(harness.runner.plans))
    assert plans[1] < plans[0] == 50


def test_nothing_is_looked_up_beyond_so_many_decodes() -> None:
    sampling = Sampling(temperature=0.0, max_tokens=30, ignore_eos=True)
    harness = Harness(limits(draft_sequences=1, token_budget=32), memory=1)
    harness.submit(0, [9], sampling)
    harness.submit(1, [9], Sampling(temperature=0.0, max_tokens=12, ignore_eos=True))
    while len(harness.tokens(1)) < 12:
        harness.step()
    assert harness.requests[0].drafted == harness.requests[1].drafted == 0
    harness.run()
    assert harness.requests[0].drafted > 0


def test_drafts_take_what_prefills_leave_of_the_budget() -> None:
    harness = Harness(limits(kv_blocks=64, sliding_blocks=64), memory=1)
    harness.submit(0, [9], Sampling(temperature=0.0, max_tokens=60, ignore_eos=True))
    while not harness.requests[0].drafted:
        harness.step()
    drafted = harness.requests[0].drafted
    long = harness.submit(1, list(range(10, 58)))
    while long.uncomputed > 7:
        harness.step()
        assert harness.requests[0].drafted == drafted
    harness.run()
    assert harness.requests[0].drafted > drafted


def test_drafts_preempt_nobody_and_hold_no_block_longer_than_a_step() -> None:
    plain, drafting = (Harness(limits(kv_blocks=12, draft_sequences=count), memory=1) for count in (0, 4))
    for harness in (plain, drafting):
        for rid in range(2):
            harness.submit(rid, [9 + rid] * 5, Sampling(max_tokens=16, seed=rid, logit_bias=NARROW))
        while harness.scheduler.busy:
            harness.step()
            for request in harness.requests:
                assert len(request.blocks) <= harness.limits.geometry.blocks(request.length)
    assert drafting.scheduler.preemptions == plain.scheduler.preemptions == 0
    assert any(request.drafted > request.accepted for request in drafting.requests)


def test_a_stop_among_the_drafts_ends_the_request_where_it_would_have() -> None:
    for seed in range(30):
        sampling = Sampling(temperature=0.3, seed=seed, max_tokens=40, logit_bias=((STOP, 1.0),))
        harness = Harness(memory=1)
        harness.submit(0, [9, 8, 7] * 5, sampling)
        harness.run()
        assert harness.tokens(0) == alone([9, 8, 7] * 5, sampling, memory=1)
