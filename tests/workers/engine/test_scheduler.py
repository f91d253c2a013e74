"""The scheduler with a fake runner that sees only what plans show it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.runner import STOP, VOCAB, generate
from tests.workers.engine.harness import Harness, limits
from workers.engine.errors import Cause, Refusal
from workers.engine.request import Finish
from workers.engine.sampling import Sampling

tokens = st.integers(0, VOCAB - 1)
prompts = st.lists(tokens, min_size=1, max_size=20)
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 2**64 - 1),
    max_tokens=st.integers(1, 24),
)


def expected(prompt: list[int], sampling: Sampling) -> list[int]:
    return generate(prompt, sampling.max_tokens or 0, sampling.seed, sampling.temperature)


@given(st.lists(st.tuples(prompts, samplings, st.integers(-1, 1)), min_size=1, max_size=8), st.integers(12, 40))
def test_batches_and_preemptions_change_no_token(requests: list[tuple[list[int], Sampling, int]], blocks: int) -> None:
    harness = Harness(limits(kv_blocks=blocks))
    for rid, (prompt, sampling, priority) in enumerate(requests):
        harness.submit(rid, prompt, sampling, priority=priority)
    harness.run()
    for rid, (prompt, sampling, _) in enumerate(requests):
        assert harness.tokens(rid) == expected(prompt, sampling)
        assert harness.end(rid) is (Finish.STOP if harness.tokens(rid)[-1] == STOP else Finish.LENGTH)
    assert harness.scheduler.cache.full.used == 0


@given(prompts, samplings, st.data())
def test_a_resumption_at_any_cut_continues_the_same_output(prompt: list[int], sampling: Sampling, data: st.DataObject) -> None:
    whole = expected(prompt, sampling)
    cut = data.draw(st.integers(0, len(whole)))
    harness = Harness()
    harness.submit(0, prompt, sampling, resume=whole[:cut])
    harness.run()
    outputs = harness.outputs[(0, 0)]
    assert harness.tokens(0) == whole[cut:]
    assert outputs[0].first_index == cut
    assert outputs[-1].end is (Finish.STOP if whole[-1] == STOP else Finish.LENGTH)
    assert outputs[-1].usage is not None
    assert (outputs[-1].usage.prompt_tokens, outputs[-1].usage.output_tokens) == (len(prompt), len(whole))


def test_preemption_happens_and_the_highest_rank_never_suffers_it() -> None:
    harness = Harness(limits(kv_blocks=12))
    sampling = Sampling(temperature=0.0, max_tokens=30)
    requests = [harness.submit(rid, [20 + rid] * 8, sampling, priority=int(rid == 2)) for rid in range(4)]
    first = requests[2]
    while first.finish is None:
        before = first.computed
        harness.step()
        assert first.computed > before or first.finish is not None
    harness.run()
    assert harness.scheduler.preemptions > 0
    for rid in range(4):
        assert harness.tokens(rid) == expected([20 + rid] * 8, sampling)


def test_decodes_run_in_every_step_beside_a_long_prefill() -> None:
    harness = Harness()
    harness.submit(0, [5, 6], Sampling(temperature=0.0, max_tokens=12))
    harness.step()
    long = harness.submit(1, list(range(10, 50)))
    for step in range(4):
        harness.step()
        assert len(harness.tokens(0)) == step + 2
        assert long.computed == 7 * (step + 1)
    assert harness.tokens(1) == []


def test_what_waits_runs_by_priority_then_by_age() -> None:
    harness = Harness(limits(max_sequences=1))
    for rid, priority in enumerate([0, 1, 0, 1]):
        harness.submit(rid, [30 + rid], Sampling(temperature=0.0, max_tokens=2), priority=priority)
    harness.run()
    assert [rid for _, rid in harness.outputs] == [1, 3, 0, 2]


def test_a_prompt_of_higher_priority_does_not_wait_for_a_long_one() -> None:
    harness = Harness(limits(kv_blocks=64, sliding_blocks=64))
    long = harness.submit(0, [10 + place for place in range(50)], Sampling(temperature=0.0, max_tokens=2))
    harness.step()
    assert long.computed == 8
    harness.submit(1, [9] * 6, Sampling(temperature=0.0, max_tokens=2), priority=9)
    harness.step()
    assert len(harness.tokens(1)) == 1
    assert long.computed == 10
    harness.submit(2, [8] * 6, Sampling(temperature=0.0, max_tokens=2))
    harness.step()
    assert not harness.requests[2].computed  # of equal priority, the older one goes first
    harness.run()
    assert [len(harness.tokens(rid)) for rid in range(3)] == [2, 2, 2]


def test_a_cancel_frees_blocks_at_once_whether_running_or_waiting() -> None:
    harness = Harness(limits(max_sequences=1))
    harness.submit(0, [7] * 10)
    harness.submit(1, [8] * 10)
    harness.step()
    assert harness.scheduler.cache.full.used == 3
    harness.scheduler.cancel((0, 0))
    assert harness.scheduler.cache.full.used == 0
    harness.scheduler.cancel((0, 1))
    assert (harness.scheduler.running, harness.scheduler.waiting) == (0, 0)
    harness.step()
    assert harness.end(0) is harness.end(1) is Finish.CANCELLED
    assert not harness.scheduler.busy
    harness.scheduler.cancel((0, 0))


def test_deadlines_end_requests_on_the_clock_that_is_handed_in() -> None:
    harness = Harness(limits(max_sequences=1))
    harness.submit(0, [7] * 10, deadline_s=5.0)
    harness.submit(1, [8] * 10, deadline_s=4.0)
    harness.step(now=3.9)
    assert not harness.outputs.get((0, 1))
    harness.step(now=4.0)
    assert harness.end(1) is Finish.DEADLINE
    harness.step(now=5.0)
    assert harness.end(0) is Finish.DEADLINE
    assert harness.scheduler.cache.full.used == 0


def test_a_complete_resumption_finishes_without_a_step() -> None:
    harness = Harness()
    harness.submit(0, [9], Sampling(max_tokens=3), resume=[10, 11, 12])
    harness.submit(1, [9], resume=[10, STOP])
    harness.submit(2, [9] * 60, resume=[10] * 4)
    harness.step()
    assert [harness.end(rid) for rid in range(3)] == [Finish.LENGTH, Finish.STOP, Finish.LENGTH]
    assert [harness.outputs[(0, rid)][0].first_index for rid in range(3)] == [3, 2, 4]
    assert len(harness.runner.plans[0].tokens) == 0


def test_the_requests_own_stops_end_it_too_and_are_in_its_output() -> None:
    whole = generate([9], 10, stops=())
    harness = Harness()
    harness.submit(0, [9], Sampling(temperature=0.0, stop_token_ids=(whole[4],)))
    harness.run()
    assert harness.tokens(0) == whole[: whole.index(whole[4]) + 1]
    assert harness.end(0) is Finish.STOP


def test_without_max_tokens_output_ends_with_the_context() -> None:
    harness = Harness(limits(stop_token_ids=frozenset()))
    harness.submit(0, [9] * 50)
    harness.run()
    assert len(harness.tokens(0)) == 14
    assert harness.end(0) is Finish.LENGTH


def test_the_queue_has_a_bound() -> None:
    harness = Harness(limits(max_waiting=2))
    for rid in range(3):
        harness.submit(rid, [9])
    harness.step()
    end = harness.end(2)
    assert isinstance(end, Refusal)
    assert end.cause is Cause.EXHAUSTED
    assert end.retry_after_s


def test_a_full_queue_still_takes_what_was_promised_elsewhere() -> None:
    sampling = Sampling(temperature=0.0, max_tokens=6)
    whole = expected([9], sampling)
    harness = Harness(limits(max_waiting=2))
    for rid in range(2):
        harness.submit(rid, [8 + rid])
    harness.submit(2, [9], sampling, resume=whole[:3])
    harness.run()
    assert harness.tokens(2) == whole[3:]


def test_logprobs_come_with_the_tokens_that_asked_for_them() -> None:
    harness = Harness()
    harness.submit(0, [9], Sampling(temperature=0.0, max_tokens=2, logprobs=2))
    harness.submit(1, [9], Sampling(temperature=0.0, max_tokens=2, logprobs=0))
    harness.submit(2, [9], Sampling(temperature=0.0, max_tokens=2))
    harness.run()
    first = [harness.outputs[(0, rid)][0] for rid in range(3)]
    assert first[0].logprobs[0].logprob == pytest.approx(-first[0].tokens[0] / 8)
    assert first[0].logprobs[0].top_ids == (0, 1)
    assert first[1].logprobs[0].top_ids == ()
    assert first[2].logprobs == ()


def test_prefill_tokens_count_what_is_left() -> None:
    harness = Harness()
    harness.submit(0, [9] * 20)
    harness.submit(1, [8] * 5)
    assert harness.scheduler.prefill_tokens == 25
    harness.step()
    assert harness.scheduler.prefill_tokens == 17


def test_positions_of_samples_are_indices_in_the_output() -> None:
    harness = Harness()
    harness.submit(0, [9], Sampling(seed=2**64 - 1, max_tokens=4), resume=[10, 11])
    harness.step()
    plan = harness.runner.plans[0]
    assert plan.output_positions.tolist() == [2]
    assert plan.seeds.dtype == np.uint64
    assert plan.seeds.tolist() == [2**64 - 1]


def test_what_the_cache_cannot_hold_is_refused_and_the_rest_fits() -> None:
    small = limits(kv_blocks=3)
    with pytest.raises(Refusal, match="KV cache holds 12 tokens"):
        small.accept((0, 0), [1] * 8, Sampling(max_tokens=6))
    harness = Harness(limits(kv_blocks=3, stop_token_ids=frozenset()))
    harness.submit(0, [1] * 8, Sampling(temperature=0.0, max_tokens=5))
    harness.submit(1, [2] * 8)
    harness.run()
    assert len(harness.tokens(0)) == len(harness.tokens(1)) == 5
