"""What is computed once is not computed again, and what is not cached whole is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.runner import STOP, VOCAB, generate
from tests.workers.engine.harness import TURN, Harness, limits
from workers.engine.request import Finish
from workers.engine.sampling import Sampling

BLOCK = 4
ONE = Sampling(temperature=0.0, max_tokens=1)
FEW = Sampling(temperature=0.0, max_tokens=6, ignore_eos=True)
tokens = st.integers(6, VOCAB - 1)  # neither stop nor the beginning of a message


def roomy(**changes: int) -> Harness:
    return Harness(limits(kv_blocks=64, sliding_blocks=64, token_budget=12, **changes))


def whole(count: int) -> int:
    return count // BLOCK * BLOCK


@given(st.lists(tokens, min_size=1, max_size=40), st.booleans())
def test_a_repeated_prompt_is_cached_but_for_its_last_block(prompt: list[int], running: bool) -> None:
    harness = roomy()
    first = harness.submit(0, prompt, Sampling(temperature=0.0, max_tokens=20, ignore_eos=True))
    while running and not len(first.output):
        harness.step()
    if not running:
        harness.run()
    before = harness.computed
    second = harness.submit(1, prompt, ONE)
    harness.run()
    assert second.cached == whole(len(prompt) - 1)
    assert harness.usage(1).cached_tokens == whole(len(prompt) - 1)
    if not running:
        assert harness.computed - before == len(prompt) - whole(len(prompt) - 1)


def test_choices_of_one_prompt_wait_for_the_one_that_computes_it() -> None:
    prompt = list(range(10, 40))
    harness = roomy()
    for seed in range(4):
        harness.submit(seed, prompt, Sampling(seed=seed, max_tokens=1))
    harness.run()
    assert [request.cached for request in harness.requests] == [0, 28, 28, 28]
    assert harness.computed == 30 + 3 * 2
    for seed in range(4):
        assert harness.tokens(seed) == generate(prompt, 1, seed, 1.0)


@pytest.mark.parametrize("way", ["cancel", "deadline"])
def test_whoever_waits_goes_on_by_itself_when_the_other_ends(way: str) -> None:
    prompt = list(range(10, 50))
    harness = roomy()
    harness.submit(0, prompt, FEW, deadline_s=2.0 if way == "deadline" else None)
    second = harness.submit(1, prompt, FEW)
    harness.step()
    assert (second.computed, len(second.blocks)) == (0, 0)
    if way == "cancel":
        harness.scheduler.cancel((0, 0))
    harness.step(now=2.0)
    assert second.cached == 12  # what the first had computed is not lost
    harness.run()
    assert harness.tokens(1) == generate(prompt, 6, stops=())


def test_whoever_waits_goes_on_by_itself_when_the_other_is_preempted() -> None:
    harness = Harness(limits(kv_blocks=14, sliding_blocks=40, token_budget=12))
    harness.submit(0, [9] * 20, Sampling(temperature=0.0, max_tokens=20, ignore_eos=True), priority=1)
    harness.step()
    harness.step()
    for rid in (1, 2):
        harness.submit(rid, list(range(10, 36)), FEW)
    harness.run()
    assert harness.scheduler.preemptions > 0
    assert harness.tokens(1) == harness.tokens(2) == generate(list(range(10, 36)), 6, stops=())


@pytest.mark.parametrize("later", [0, 1])
def test_two_prompts_part_where_no_message_begins_and_share_what_they_can(later: int) -> None:
    head = list(range(10, 32))
    harness = roomy()
    harness.submit(0, [*head, *range(40, 60)], ONE)
    for _ in range(later):
        harness.step()
    second = harness.submit(1, [*head, *range(60, 80)], ONE)
    harness.run()
    assert second.cached == whole(len(head))


def test_nobody_waits_for_the_tail_of_another() -> None:
    harness = roomy()
    harness.submit(0, [*range(10, 18), *range(20, 30)], FEW)
    harness.submit(1, [*range(10, 18), *range(50, 80)], ONE)
    harness.step()
    harness.step()
    assert all(len(request.blocks) for request in harness.requests)


def test_a_hit_needs_a_window_that_was_kept_and_is_shortened_to_it() -> None:
    head = [*range(10, 27), TURN, *range(30, 36)]  # a message begins in block 4
    harness = roomy()
    harness.submit(0, [*head, *range(40, 50)], ONE)
    harness.run()
    second = harness.submit(1, [*head, *range(60, 70)], ONE)
    harness.run()
    assert second.cached == 16
    third = harness.submit(2, [*head[:5], *range(60, 70)], ONE)
    harness.run()
    assert third.cached == 0


def test_windows_are_kept_before_messages_that_the_output_begins() -> None:
    prompt = next([seed] * 3 for seed in range(10, VOCAB) if TURN in generate([seed] * 3, 20, stops=())[3:])
    output = generate(prompt, 40, stops=())
    turn = len(prompt) + output.index(TURN, 3)
    harness = roomy()
    harness.submit(0, prompt, Sampling(temperature=0.0, max_tokens=40, ignore_eos=True))
    harness.run()
    second = harness.submit(1, [*prompt, *output][:turn] + [7, 8, 9, 6, 7], ONE)
    harness.run()
    assert second.cached == whole(turn)


def test_a_window_that_was_found_stays_as_it_was_found() -> None:
    harness = roomy()
    output = generate([9] * 20, 6, stops=())
    harness.submit(0, [9] * 20, FEW)
    harness.run()
    for rid in (1, 2):  # what the first stopped behind is no place of theirs
        request = harness.submit(rid, [*[9] * 20, *output, *range(30 + rid, 45 + rid)], FEW)
        harness.run()
        assert request.cached == whole(25)


def test_other_windows_are_given_up_and_the_sliding_group_stays_small() -> None:
    harness = Harness(limits(kv_blocks=64, sliding_blocks=64, token_budget=4, max_context=200, max_sequences=1))
    harness.submit(0, [9] * 60, Sampling(max_tokens=60, ignore_eos=True, logit_bias=((TURN, -100.0),)))
    sliding = harness.scheduler.cache.sliding
    while harness.scheduler.busy:
        harness.step()
        assert sliding.used <= harness.limits.geometry.entitled
    width = harness.limits.geometry.width
    assert len(sliding.names) == width + 1 + width  # before the prompt's end and its last token, and where it stopped


def test_cached_windows_make_room_and_the_hit_is_shortened() -> None:
    harness = Harness(limits(kv_blocks=64, sliding_blocks=6, token_budget=8))
    first = list(range(10, 30))
    harness.submit(0, first, ONE)
    harness.run()
    harness.submit(1, list(range(40, 75)), ONE)
    harness.run()
    again = harness.submit(2, first, ONE)
    harness.run()
    assert again.cached == 0
    assert harness.tokens(2) == harness.tokens(0)


def test_whoever_shares_a_window_has_a_place_for_its_own() -> None:
    harness = Harness(limits(kv_blocks=64, sliding_blocks=7, token_budget=12, max_context=64))
    for rid in range(4):
        harness.submit(rid, list(range(10, 31)), Sampling(seed=rid, max_tokens=30, ignore_eos=True))
    most = 0
    while harness.scheduler.busy:
        harness.step()
        most = max(most, harness.scheduler.running)
    assert most == 7 // harness.limits.geometry.entitled
    assert harness.scheduler.preemptions == 0


def test_a_salt_keeps_tenants_apart() -> None:
    harness = roomy()
    prompt = list(range(10, 30))
    for rid, salt in enumerate([b"one", b"two", b"one"]):
        harness.submit(rid, prompt, ONE, salt=salt)
        harness.run()
    assert [request.cached for request in harness.requests] == [0, 0, 16]


def test_an_agent_loop_prefills_what_is_new_and_the_tail_that_rendering_rewrote() -> None:
    harness = Harness(limits(kv_blocks=400, sliding_blocks=60, token_budget=32, max_context=1000))
    prompt = [TURN, *range(10, 60), TURN, *range(30, 50), TURN, 8]
    returned, ended = STOP, 4
    known = new = 0
    for turn in range(10):
        sampling = Sampling(temperature=0.0, max_tokens=25, logit_bias=((returned, 100.0),), min_tokens=20 + turn % 5)
        before = harness.computed
        request = harness.submit(turn, prompt, sampling)
        harness.run()
        output = harness.tokens(turn)
        assert harness.end(turn) is Finish.STOP
        if turn:
            assert request.cached == whole(known)
            assert harness.computed - before - (len(output) - 1) == len(prompt) - whole(known) <= new + BLOCK
        known = len(prompt) + len(output) - 1  # the stop comes back as another token
        answer = [TURN, *(20 + turn + index for index in range(7 + turn)), TURN, 8]
        new = 1 + len(answer)
        prompt = [*prompt, *output[:-1], ended, *answer]


def test_a_turn_whose_reasoning_is_left_out_goes_on_from_the_prompts_end() -> None:
    harness = roomy()
    prompt = [TURN, *range(10, 31), TURN, 8]
    harness.submit(0, prompt, Sampling(max_tokens=20, ignore_eos=True))
    harness.run()
    second = harness.submit(1, [*prompt, 90, 91, 92], ONE)
    harness.run()
    assert second.cached == len(prompt) == whole(len(prompt))


def test_a_preempted_request_goes_on_from_what_is_cached_still() -> None:
    harness = Harness(limits(kv_blocks=16, sliding_blocks=40, max_sequences=2))
    sampling = Sampling(temperature=0.0, max_tokens=24, ignore_eos=True)
    for rid in range(2):
        harness.submit(rid, [20 + rid] * 12, sampling)
    harness.run()
    assert harness.scheduler.preemptions == 1
    assert harness.computed < 2 * (12 + 23) + 12


def test_what_a_broken_request_computed_is_not_kept() -> None:
    harness = roomy()
    prompt = list(range(10, 30))
    harness.submit(0, prompt, ONE)
    harness.run()
    harness.runner.broken = frozenset({90})
    harness.submit(1, [*prompt, 90], FEW)
    harness.run()
    harness.runner.broken = frozenset()
    again = harness.submit(2, prompt, ONE)
    harness.run()
    assert again.cached == 0


def test_scores_of_the_prompt_come_once_and_in_order_whatever_is_cached() -> None:
    harness = Harness(limits(kv_blocks=128, sliding_blocks=64, token_budget=200, max_context=300))
    prompt = [10 + number % 80 for number in range(150)]
    scored = Sampling(temperature=0.0, max_tokens=2, prompt_logprobs=1)
    harness.submit(0, prompt, ONE)
    harness.run()
    request = harness.submit(1, prompt, scored)
    harness.submit(2, prompt, scored, resume=generate(prompt, 1))
    harness.run()
    steps = [output.prompt_logprobs for output in harness.outputs[(0, 1)] if output.prompt_logprobs]
    assert [len(scores) for scores in steps] == [64, 64, 21]
    assert [-8 * score.logprob for scores in steps for score in scores] == prompt[1:]
    assert {score.top_ids for scores in steps for score in scores} == {(0,)}
    assert request.cached == 0
    assert not any(output.prompt_logprobs for output in harness.outputs[(0, 2)])


def test_a_prompt_is_scored_without_any_output() -> None:
    harness = roomy()
    harness.submit(0, list(range(10, 30)), Sampling(max_tokens=0, prompt_logprobs=0))
    harness.submit(1, list(range(10, 30)), Sampling(max_tokens=0))
    harness.run()
    assert sum(len(output.prompt_logprobs) for output in harness.outputs[(0, 0)]) == 19
    assert harness.end(0) is harness.end(1) is Finish.LENGTH
    assert harness.tokens(0) == harness.tokens(1) == []
