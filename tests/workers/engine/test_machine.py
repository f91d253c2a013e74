"""Any order of submissions, cancels, resumptions, deadlines and steps: blocks and tokens are all accounted for."""

from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.fakes.runner import VOCAB, generate
from tests.workers.engine.harness import Harness, limits
from workers.engine.request import Finish, Request, Sampling


class SchedulerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.harness = Harness(limits(kv_blocks=14, max_sequences=3, token_budget=6))
        self.requests: dict[int, Request] = {}
        self.resumed: dict[int, int] = {}
        self.now = 0.0

    @rule(
        prompt=st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=24),
        max_tokens=st.integers(1, 20),
        seed=st.integers(0, 2**64 - 1),
        temperature=st.sampled_from([0.0, 0.7]),
        priority=st.integers(-1, 1),
        patience=st.none() | st.integers(1, 30),
        data=st.data(),
    )
    def submit(
        self,
        prompt: list[int],
        max_tokens: int,
        seed: int,
        temperature: float,
        priority: int,
        patience: int | None,
        data: st.DataObject,
    ) -> None:
        rid = len(self.requests)
        whole = generate(prompt, max_tokens, seed, temperature)
        cut = data.draw(st.integers(0, len(whole)))
        sampling = Sampling(temperature=temperature, seed=seed, max_tokens=max_tokens)
        fields: dict[str, Any] = {"priority": priority, "deadline_s": self.now + patience if patience else None}
        self.requests[rid] = self.harness.submit(rid, prompt, sampling, resume=whole[:cut], **fields)
        self.resumed[rid] = cut

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        rid = data.draw(st.sampled_from(sorted(self.requests)))
        self.harness.scheduler.cancel((0, rid))
        assert not self.requests[rid].blocks

    @rule()
    def step(self) -> None:
        self.now += 1
        self.harness.step(self.now)

    @invariant()
    def every_block_has_one_owner(self) -> None:
        owned = [block for request in self.requests.values() for block in request.blocks]
        pool = self.harness.scheduler.pool
        assert len(owned) == len(set(owned)) == pool.used
        assert all(0 <= block < pool.total for block in owned)

    @invariant()
    def outputs_are_contiguous_and_right(self) -> None:
        for rid, request in self.requests.items():
            index = self.resumed[rid]
            for output in self.harness.outputs.get((0, rid), []):
                assert output.first_index == index
                index += len(output.tokens)
            sampling = request.sampling
            whole = generate(request.prompt, sampling.max_tokens or 0, sampling.seed, sampling.temperature)
            assert self.harness.tokens(rid) == whole[self.resumed[rid] : index]

    def teardown(self) -> None:
        self.harness.run()
        assert self.harness.scheduler.pool.used == 0
        for rid, request in self.requests.items():
            ends = [output.end for output in self.harness.outputs[(0, rid)]]
            assert ends[-1] is not None
            assert ends[:-1].count(None) == len(ends) - 1
            assert ends[-1] in (request.finish, Finish.CANCELLED, Finish.DEADLINE)


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
