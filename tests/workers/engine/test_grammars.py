"""Requests that are held to grammars."""

import threading
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from tests.fakes.grammar import FakeGrammar, Stalling, mask_of
from tests.fakes.runner import VOCAB, FakeRunner, alone
from tests.workers.engine.harness import GREEDY, Harness, limits
from workers.engine.adjustments import NO_IDS, NO_VALUES
from workers.engine.engine import Engine
from workers.engine.grammar import Allowed, Below, Mask
from workers.engine.plan import Plan, Sampled
from workers.engine.report import Output, Report
from workers.engine.request import Finish
from workers.engine.sampling import Sampling
from workers.engine.stepper import Stepper

TEN = Sampling(temperature=0.0, max_tokens=10)


class Sequence(FakeGrammar):
    """Allows one text alone."""

    def __init__(self, text: list[int]) -> None:
        super().__init__(0)
        self._text = text

    def _mask(self) -> Mask:
        return mask_of(self._text[len(self.accepted) :][:1])


class Anything(FakeGrammar):
    """Holds the output to one mask, which is always the same object and at hand."""

    allowed = mask_of(list(range(20, 30)))

    def _mask(self) -> Mask:
        return self.allowed

    @property
    def slow(self) -> bool:
        return False


class Panic(BaseException):
    """What native code raises is no Exception."""


class Failing(FakeGrammar):
    """Fails in one of its methods, at its call of that number, and makes sure that nobody uses it any more."""

    def __init__(self, method: str, call: int) -> None:
        super().__init__(0)
        self._fails, self._left = method, call
        self._failed = False

    def _mask(self) -> Allowed:
        length = len(self.accepted)
        return mask_of([20]) if length % 5 == 4 else None  # so that drafts are forced now and then

    def mask(self) -> Allowed:
        self._check("mask")
        return super().mask()

    def accept(self, token: int) -> None:
        self._check("accept")
        super().accept(token)

    def rollback(self, count: int) -> None:
        self._check("rollback")
        super().rollback(count)

    def forced(self, limit: int) -> list[int]:
        self._check("forced")
        return super().forced(limit)

    def _check(self, method: str) -> None:
        assert not self._failed, "a state that is of no use is used"
        self._left -= method == self._fails
        if self._left < 0:
            self._failed = True
            raise Panic("it gives up")


@pytest.mark.parametrize("call", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("method", ["mask", "accept", "rollback", "forced"])
def test_a_grammar_that_fails_ends_its_own_request(method: str, call: int, caplog: pytest.LogCaptureFixture) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=40, logit_bias=tuple((token, 50.0) for token in (20, 21)))
    harness = Harness(memory=1)
    harness.submit(0, [9], sampling, grammar=Failing(method, call))
    harness.submit(1, [10], sampling)
    harness.run()
    whole = alone([9], sampling, grammar=Failing("none", 0), memory=1)
    assert harness.tokens(1) == alone([10], sampling, memory=1)
    assert harness.end(0) is Finish.GRAMMAR_FAILED
    assert 0 < len(harness.tokens(0)) < 40
    assert harness.tokens(0) == whole[: len(harness.tokens(0))]
    assert [record.exc_info is not None for record in caplog.records] == [True]


@pytest.mark.parametrize("look_up", [0, 4])
@pytest.mark.parametrize("seed", range(8))
def test_the_output_is_what_the_grammar_and_the_model_say(seed: int, look_up: int) -> None:
    sampling = Sampling(temperature=0.7, seed=seed, max_tokens=30)
    harness = Harness(limits(kv_blocks=13, draft_sequences=look_up, stop_token_ids=frozenset()), memory=2)
    grammars = [FakeGrammar(seed + rid) for rid in range(4)]
    for rid, grammar in enumerate(grammars):
        harness.submit(rid, [9 + rid] * 8, sampling, grammar=grammar)
    harness.run()
    for rid, grammar in enumerate(grammars):
        expected = alone([9 + rid] * 8, sampling, (), FakeGrammar(seed + rid), memory=2)
        assert harness.tokens(rid) == expected == grammar.accepted
        assert harness.end(rid) is (Finish.LENGTH if len(expected) == 30 else Finish.GRAMMAR)


def test_a_grammar_that_allows_nothing_ends_the_request_before_it_runs() -> None:
    harness = Harness()
    harness.submit(0, [9], grammar=Sequence([]))
    harness.run()
    assert (harness.end(0), harness.tokens(0), harness.computed) == (Finish.GRAMMAR, [], 0)
    assert harness.usage(0).output_tokens == 0


class Quick(Sequence):
    @property
    def slow(self) -> bool:
        return False


@pytest.mark.parametrize(("kind", "count"), [(Quick, 1), (Sequence, 0)])
def test_a_dead_end_comes_with_the_token_that_leads_to_it_or_a_step_later(kind: type[Sequence], count: int) -> None:
    """Later where the mask that shows it is computed while that step runs."""
    harness = Harness(limits(draft_tokens=0))
    harness.submit(0, [9], TEN, grammar=kind([11, 12, 13]))
    harness.run()
    assert harness.tokens(0) == [11, 12, 13]
    assert len(harness.outputs[(0, 0)][-1].tokens) == count
    assert harness.end(0) is Finish.GRAMMAR
    assert harness.usage(0).output_tokens == 3


def test_what_is_forced_comes_in_one_step_whatever_the_batch() -> None:
    text = list(range(11, 21))
    harness = Harness(limits(draft_sequences=0, token_budget=30))
    for rid in range(3):
        harness.submit(rid, [9 + rid], TEN, grammar=Sequence(text))
    harness.run()
    assert [harness.tokens(rid) for rid in range(3)] == [text] * 3
    assert len(harness.runner.plans) == 2  # the first token behind the prompt, then eight drafts and the last
    assert harness.usage(0).drafted_tokens == harness.usage(0).accepted_tokens == 8


def test_without_drafts_a_step_brings_one_token() -> None:
    harness = Harness(limits(draft_tokens=0))
    harness.submit(0, [9], TEN, grammar=Sequence(list(range(11, 21))))
    harness.submit(1, [20] * 9, replace(TEN, logit_bias=((20, 100.0),)))
    harness.run()
    assert harness.tokens(0) == list(range(11, 21)) and harness.tokens(1) == [20] * 10
    assert [harness.usage(rid).drafted_tokens for rid in (0, 1)] == [0, 0]


@pytest.mark.parametrize("repetition", [1.0, 2.0])
@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_a_bias_that_forbids_what_the_grammar_demands_is_a_dead_end(repetition: float, temperature: float) -> None:
    harness = Harness()
    sampling = Sampling(temperature, max_tokens=10, logit_bias=((13, -100.0),), repetition_penalty=repetition)
    harness.submit(0, [9, 13], sampling, grammar=Sequence([11, 12, 13]))
    harness.run()
    assert (harness.end(0), harness.tokens(0)) == (Finish.GRAMMAR, [11, 12])


def test_a_stop_that_the_grammar_demands_too_early_is_a_dead_end() -> None:
    harness = Harness()
    sampling = Sampling(temperature=0.0, max_tokens=10, min_tokens=5, stop_token_ids=(13,))
    harness.submit(0, [9], sampling, grammar=Sequence([11, 12, 13]))
    harness.run()
    assert (harness.end(0), harness.tokens(0)) == (Finish.GRAMMAR, [11, 12])


def test_equal_masks_are_packed_once() -> None:
    harness = Harness(limits(draft_sequences=0))
    for rid in range(2):
        harness.submit(rid, [9 + rid], TEN, grammar=Anything(0))
    harness.submit(2, [8], TEN)
    harness.step()
    plan = harness.runner.plans[0]
    assert plan.mask_rows.tolist() == [0, 0, -1]
    assert np.array_equal(plan.masks, Anything.allowed)
    harness.run()
    assert set(harness.tokens(0)) <= set(range(20, 30))


def test_free_requests_carry_no_masks() -> None:
    harness = Harness()
    harness.submit(0, [9], GREEDY)
    harness.step()
    plan = harness.runner.plans[0]
    assert (len(plan.masks), plan.mask_rows.tolist(), len(plan.bias_ids), len(plan.seen_ids)) == (0, [-1], 0, 0)
    assert plan.below.tolist() == [-1]
    assert VOCAB > 32


class Free(FakeGrammar):
    def _mask(self) -> Allowed:
        return Below(40, 50)


def test_what_is_allowed_below_an_id_takes_no_mask() -> None:
    harness = Harness(limits(draft_sequences=0))
    for rid in range(2):
        harness.submit(rid, [9 + rid], TEN, grammar=Free(0))
    harness.run()
    assert all(len(plan.masks) == 0 for plan in harness.runner.plans)
    assert harness.runner.plans[0].below.tolist() == [40, 40]
    tokens = {*harness.tokens(0), *harness.tokens(1)}
    assert tokens <= {*range(40), 50} and len(tokens) > 5


class Counted(FakeGrammar):
    """Ten tokens that are forced, then any of some that repeat themselves, which takes a mask; counts the masks asked for."""

    some = mask_of([20, 21])

    @property
    def slow(self) -> bool:
        return True

    def __init__(self) -> None:
        super().__init__(0)
        self.asked = 0

    def mask(self) -> Allowed:
        self.asked += 1
        return super().mask()

    def _mask(self) -> Allowed:
        length = len(self.accepted)
        return mask_of([30 + length]) if length < 9 else self.some

    def accept(self, token: int) -> None:
        self.accepted.append(token)

    def forced(self, limit: int) -> list[int]:
        return list(range(30 + len(self.accepted), 39))[:limit]


def test_drafts_take_one_mask_a_step_at_most() -> None:
    harness = Harness(limits(token_budget=30), memory=1)
    counted = Counted()
    harness.submit(0, [9], Sampling(temperature=0.0, max_tokens=40), grammar=counted)
    asked = []
    while harness.scheduler.busy:
        before = counted.asked
        harness.step()
        asked.append(counted.asked - before)
    assert harness.requests[0].drafted == 8  # nothing is looked up where a mask holds
    assert asked[:3] == [0, 1, 1]  # what comes first was known before
    assert max(asked) == 1


class Hasty:
    """A runner that says 20 always, and needs no mask for it."""

    def __init__(self, says: threading.Event) -> None:
        self._says = says

    def execute(self, plan: Plan) -> Sampled:
        self._says.set()
        rows = len(plan.rows)
        return Sampled(np.full(rows, 20, np.int32), np.zeros(rows, np.float32), [NO_IDS] * rows, [NO_VALUES] * rows)

    def close(self) -> None:
        """Has nothing to give back."""


class Lagging(FakeGrammar):
    """Masks take longer than the steps that they are for. Nobody may use it meanwhile."""

    slow = True

    def __init__(self, said: threading.Event) -> None:
        super().__init__(0)
        self._said = said
        self._asked = False

    def mask(self) -> Allowed:
        self._asked = True
        assert self._said.wait(30)
        self._asked = False
        return mask_of([20])

    def accept(self, token: int) -> None:
        assert not self._asked, "its mask is being computed"
        self.accepted.append(token)
        self._said.clear()

    def forced(self, limit: int) -> list[int]:
        return []


def test_grammars_go_on_once_their_masks_are_there_whatever_a_runner_asks_for() -> None:
    said = threading.Event()
    said.set()  # for what may come first, which is asked for as the request is made
    bounds, grammar = limits(stop_token_ids=frozenset()), Lagging(said)
    stepper = Stepper(Hasty(said), bounds)
    stepper.submit(bounds.accept((0, 0), [9], TEN, grammar=grammar))
    outputs: list[Output] = []
    while stepper.busy:
        outputs += stepper.step().outputs
    assert (grammar.accepted, outputs[-1].end) == ([20] * 10, Finish.LENGTH)


LONG = Sampling(temperature=0.7, seed=1, max_tokens=40)


def stalled(**fields: Any) -> tuple[Harness, Stalling]:
    """A request that is stalled beside one that runs."""
    harness, grammar = Harness(limits(stop_token_ids=frozenset())), Stalling(1, ends=False)
    harness.submit(0, [9] * 8, LONG, grammar=grammar, **fields)
    harness.submit(1, [10] * 8, LONG)
    while not harness.stalled:
        harness.step()
    return harness, grammar


def test_a_grammar_that_stalls_holds_up_its_own_request_alone() -> None:
    """Which gives its blocks back meanwhile and goes on where it was."""
    harness, grammar = stalled()
    before, others = harness.tokens(0), len(harness.tokens(1))
    assert not len(harness.requests[0].blocks) and not harness.requests[0].sliding
    assert (harness.scheduler.running, harness.scheduler.waiting) == (1, 1)
    for _ in range(5):
        harness.step()
    assert harness.tokens(0) == before and len(harness.tokens(1)) >= others + 5
    harness.run()
    assert harness.tokens(0) == alone([9] * 8, LONG, (), FakeGrammar(1, ends=False))
    assert harness.tokens(1) == alone([10] * 8, LONG, ())
    assert grammar.renewals > 1


class Headed(Stalling):
    """Two tokens are forced, then some may come, which stalls."""

    def _mask(self) -> Allowed:
        length = len(self.accepted)
        return mask_of([30 + length] if length < 2 else [20, 21])


def test_a_grammar_that_stalls_behind_drafts_is_renewed() -> None:
    harness, grammar = Harness(), Headed(1)
    harness.submit(0, [9], TEN, grammar=grammar)
    harness.run()
    assert (harness.tokens(0)[:2], len(harness.tokens(0)), harness.end(0)) == ([30, 31], 10, Finish.LENGTH)
    assert harness.usage(0).accepted_tokens == 1 and grammar.renewals > 1


def test_nothing_is_left_to_compute_where_all_are_stalled() -> None:
    harness, _ = stalled()
    while harness.scheduler.busy:
        harness.step()
    assert harness.end(1) is Finish.LENGTH and len(harness.tokens(0)) < 40
    harness.renew()
    assert harness.scheduler.busy


def test_a_stalled_request_can_be_cancelled_and_is_not_woken() -> None:
    harness, _ = stalled()
    harness.scheduler.cancel((0, 0))
    harness.run()
    assert (harness.end(0), harness.end(1)) == (Finish.CANCELLED, Finish.LENGTH)


def test_a_stalled_request_has_a_deadline() -> None:
    harness, _ = stalled(deadline_s=5.0)
    harness.step(now=6.0)
    assert harness.end(0) is Finish.DEADLINE
    harness.run()
    assert harness.end(1) is Finish.LENGTH


def test_what_is_resumed_is_renewed_before_it_is_queued() -> None:
    expected, grammar = alone([9] * 8, LONG, (), FakeGrammar(1, ends=False)), Stalling(1, ends=False)
    while grammar.renewals < 1 or not grammar.stalled:
        grammar.accept(expected[len(grammar.accepted)])
        if grammar.stalled:
            grammar.renew()
        grammar.mask()
    cut = len(grammar.accepted)
    harness, grammar = Harness(limits(stop_token_ids=frozenset())), Stalling(1, ends=False)
    harness.submit(0, [9] * 8, LONG, resume=expected[:cut], grammar=grammar)
    assert grammar.renewals == 1
    harness.run()
    assert harness.tokens(0) == expected[cut:]


class Renewed(Stalling):
    """Notes the threads that renew it."""

    def __init__(self) -> None:
        super().__init__(1, ends=False)
        self.threads: list[str] = []

    def renew(self) -> None:
        self.threads.append(threading.current_thread().name)
        super().renew()


def test_no_step_renews_a_grammar() -> None:
    """An idle engine wakes for a request that can go on: its next beat would be in a quarter of an hour."""
    reports: SimpleQueue[Report] = SimpleQueue()
    bounds, grammar = limits(stop_token_ids=frozenset()), Renewed()
    engine = Engine(FakeRunner(bounds.kv_blocks, bounds.block_size, window=bounds.window), bounds, reports.put, beat_s=1000.0)
    engine.start()
    engine.submit(bounds.accept((0, 0), [9] * 8, LONG, grammar=grammar))
    tokens: list[int] = []
    while len(tokens) < 40:
        for output in reports.get(timeout=30).outputs:
            tokens += output.tokens
    engine.close()
    engine.done.result(30)
    assert tokens == alone([9] * 8, LONG, (), FakeGrammar(1, ends=False))
    assert len(grammar.threads) == grammar.renewals > 1
    assert set(grammar.threads) == {"renewal"}
