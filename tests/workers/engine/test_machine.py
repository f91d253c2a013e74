"""Any order of submissions, cancels, resumptions, deadlines and steps: blocks and tokens are all accounted for."""

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.fakes.grammar import FakeGrammar, Stalling
from tests.fakes.runner import STOP, VOCAB, alone, repeats
from tests.workers.engine.harness import TURN, Harness, limits
from workers.engine.request import Finish, Request
from workers.engine.sampling import RepetitionDetection, Sampling

samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.7]),
    seed=st.integers(0, 2),
    max_tokens=st.integers(0, 20),
    min_tokens=st.sampled_from([0, 0, 4]),
    ignore_eos=st.booleans(),
    presence_penalty=st.sampled_from([0.0, 0.0, 1.5]),
    frequency_penalty=st.sampled_from([0.0, 0.0, 0.75]),
    repetition_penalty=st.sampled_from([1.0, 1.0, 1.5]),
    logit_bias=st.sampled_from([(), ((STOP, 2.0), (9, 8.0)), tuple((token, 50.0) for token in (20, 21, 22))]),
    prompt_logprobs=st.sampled_from([-1, -1, -1, 2]),
    repetition_detection=st.sampled_from([None, None, RepetitionDetection(3, min_count=3), RepetitionDetection(6, 2, 2)]),
).map(lambda sampling: replace(sampling, min_tokens=min(sampling.min_tokens, sampling.max_tokens or 0)))


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(
        kv_blocks=st.integers(13, 20),
        sliding_blocks=st.integers(3, 14),
        draft_sequences=st.sampled_from([0, 3]),
        memory=st.sampled_from([None, 1, 2]),
        documents=st.lists(st.lists(st.integers(0, 8), min_size=28, max_size=28), min_size=1, max_size=2),
    )
    def begin(
        self, kv_blocks: int, sliding_blocks: int, draft_sequences: int, memory: int | None, documents: list[list[int]]
    ) -> None:
        self.memory = memory
        self.documents = documents
        changes = {"kv_blocks": kv_blocks, "sliding_blocks": sliding_blocks, "draft_sequences": draft_sequences}
        self.harness = Harness(limits(max_sequences=3, token_budget=7, **changes), memory)
        self.requests: dict[int, Request] = {}
        self.expected: dict[int, list[int]] = {}
        self.resumed: dict[int, int] = {}
        self.now = 0.0

    @rule(
        shared=st.integers(0, 24),
        own=st.lists(st.integers(0, VOCAB - 1), max_size=6),
        sampling=samplings,
        grammar=st.none() | st.integers(0, 3),
        stalls=st.booleans(),
        fields=st.fixed_dictionaries({"priority": st.integers(-1, 1), "salt": st.sampled_from([b"", b"", b"tenant"])}),
        patience=st.none() | st.integers(1, 30),
        data=st.data(),
    )
    def submit(
        self,
        shared: int,
        own: list[int],
        sampling: Sampling,
        grammar: int | None,
        stalls: bool,
        fields: dict[str, Any],
        patience: int | None,
        data: st.DataObject,
    ) -> None:
        sampling = replace(sampling, ignore_eos=sampling.ignore_eos and grammar is None)
        rid = len(self.requests)
        prompt = [*data.draw(st.sampled_from(self.documents))[:shared], *own] or [TURN]
        stops = () if sampling.ignore_eos else (STOP,)
        whole = alone(prompt, sampling, stops, None if grammar is None else FakeGrammar(grammar), self.memory)
        cut = data.draw(st.sampled_from([0, 0, 0, len(whole), len(whole) // 2]))
        self.expected[rid], self.resumed[rid] = whole, cut
        self.requests[rid] = self.harness.submit(
            rid,
            prompt,
            sampling,
            resume=whole[:cut],
            deadline_s=self.now + patience if patience else None,
            grammar=None if grammar is None else Stalling(grammar) if stalls else FakeGrammar(grammar),
            **fields,
        )

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        rid = data.draw(st.sampled_from(sorted(self.requests)))
        self.harness.scheduler.cancel((0, rid))
        assert not len(self.requests[rid].blocks)
        assert not self.requests[rid].sliding

    @precondition(lambda self: self.harness.stalled)
    @rule()
    def renew(self) -> None:
        self.harness.renew()

    @rule(count=st.integers(1, 4))
    def step(self, count: int) -> None:
        for _ in range(count):
            self.now += 1
            self.harness.step(self.now)

    @invariant()
    def outputs_are_contiguous_and_right(self) -> None:
        for rid in self.requests:
            index = self.resumed[rid]
            for output in self.harness.outputs.get((0, rid), []):
                assert output.first_index == index
                index += len(output.tokens)
            assert self.harness.tokens(rid) == self.expected[rid][self.resumed[rid] : index]

    def teardown(self) -> None:
        if not hasattr(self, "harness"):
            return
        self.harness.run()
        for pool in (self.harness.scheduler.cache.full, self.harness.scheduler.cache.sliding):
            assert pool.used == 0
        for rid, request in self.requests.items():
            ends = [output.end for output in self.harness.outputs[(0, rid)]]
            assert ends[:-1].count(None) == len(ends) - 1
            if ends[-1] not in (Finish.CANCELLED, Finish.DEADLINE):
                self.complete(rid, request, ends[-1])

    def complete(self, rid: int, request: Request, end: object) -> None:
        expected, sampling = self.expected[rid], request.sampling
        assert request.output.tolist() == expected
        stopped = bool(expected) and expected[-1] in request.stops
        repeated = len(expected) >= sampling.min_tokens and repeats(expected, sampling.repetition_detection)
        otherwise = Finish.REPETITION if repeated else Finish.GRAMMAR
        assert end is (Finish.STOP if stopped else Finish.LENGTH if len(expected) == sampling.max_tokens else otherwise)
        scores = [score for output in self.harness.outputs[(0, rid)] for score in output.prompt_logprobs]
        asked = sampling.prompt_logprobs >= 0 and not self.resumed[rid]
        assert [-8 * score.logprob for score in scores] == (
            request.tokens.array[1 : request.prompt_tokens].tolist() if asked else []
        )


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=60, stateful_step_count=40)
