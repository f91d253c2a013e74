"""What a simulated model says depends on prompt, seed and grammar alone, and on the cache's holding what it should."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ossia.common.vocabulary import encode
from ossia.v1 import engine_pb2
from tests.workers.simulated.harness import MODEL, TOOLS, Harness, answered, asked
from workers.engine.plan import Plan
from workers.engine.request import Finish
from workers.engine.sampling import Sampling
from workers.simulated import runner

SCHEMA = json.dumps(
    {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
)
HELD = engine_pb2.Grammar(harmony=True, json_schema=SCHEMA)


@dataclass(frozen=True)
class Job:
    prompt: list[int]
    sampling: Sampling
    held: engine_pb2.Grammar | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    def submit(self, harness: Harness) -> int:
        return harness.submit(self.prompt, self.sampling, self.held, **self.fields)

    def alone(self) -> list[int]:
        harness = Harness()
        self.submit(harness)
        harness.run()
        return harness.tokens(0)


def jobs() -> list[Job]:
    """Mixed requests, some of which share prompts."""
    prompts = [asked("How is it in Rome?", TOOLS), answered("How is it?", "fine"), asked("150 words"), encode("So " * 150)]
    settings: list[tuple[Sampling, engine_pb2.Grammar | None]] = [
        (Sampling(temperature=0.0), None),
        (Sampling(seed=1, logprobs=2), None),
        (Sampling(seed=2, min_tokens=150, max_tokens=180), None),
        (Sampling(seed=3, repetition_penalty=1.2, logit_bias=((encode(" The")[0], -100.0),)), None),
        (Sampling(seed=4, prompt_logprobs=1), None),
        (Sampling(seed=5, max_tokens=300), HELD),
    ]
    return [Job(prompt, sampling, held) for prompt in prompts for sampling, held in settings]


@pytest.fixture(scope="module")
def alone() -> list[list[int]]:
    return [job.alone() for job in jobs()]


@pytest.mark.parametrize(("blocks", "sequences", "budget"), [(1024, 64, 512), (60, 16, 64)])
def test_in_a_batch_each_says_what_it_says_alone(alone: list[list[int]], blocks: int, sequences: int, budget: int) -> None:
    harness = Harness(blocks, sequences, budget)
    numbers = [job.submit(harness) for job in jobs()]
    harness.run()
    assert [harness.tokens(number) for number in numbers] == alone
    assert (harness.preemptions > 0) == (blocks == 60)
    usages = [harness.outputs[number][-1].usage for number in numbers]
    assert sum(usage.cached_tokens for usage in usages if usage) > 0
    assert sum(usage.accepted_tokens for usage in usages if usage) > 0


def test_a_sequence_that_is_forgotten_is_read_anew(alone: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "REMEMBERED", 3)
    harness = Harness()
    numbers = [job.submit(harness) for job in jobs()]
    harness.run()
    assert [harness.tokens(number) for number in numbers] == alone


@pytest.mark.parametrize("delivered", [1, 20, 40])
def test_a_resumed_request_goes_on(alone: list[list[int]], delivered: int) -> None:
    for index in (0, 7, 11):
        job, whole = jobs()[index], alone[index]
        again = Job(job.prompt, job.sampling, job.held, {"resume": whole[:delivered]})
        assert whole[:delivered] + again.alone() == whole


@pytest.mark.parametrize("sliding", [False, True])
def test_a_lost_cell_changes_what_is_said(sliding: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cell before the new one in the full group, or the oldest of the window, once ten tokens have been said."""
    job = Job(asked("How is it in Rome? Say it in 200 words"), Sampling(temperature=0.0, max_tokens=60))
    right, harness = job.alone(), Harness()
    execute = harness.runner.execute

    def forgetful(plan: Plan) -> Any:
        if (length := int(plan.context_lengths[0])) == len(job.prompt) + 10:
            cells = harness.runner._cache._sliding if sliding else harness.runner._cache._full
            at = max(0, length - MODEL.window) if sliding else length - 2
            ids = plan.sliding_ids if sliding else plan.block_ids
            slot = int(ids[at // 16 - (plan.sliding_firsts[0] if sliding else 0)]) * 16 + at % 16
            cells.tokens[slot], cells.sums[slot] = 1000, np.uint64(1)
        return execute(plan)

    monkeypatch.setattr(harness.runner, "execute", forgetful)
    job.submit(harness)
    harness.run()
    assert harness.tokens(0)[:10] == right[:10]
    assert harness.tokens(0) != right


def test_log_probabilities_have_their_shapes() -> None:
    harness = Harness()
    harness.submit(asked("Hello"), Sampling(max_tokens=4, logprobs=3, prompt_logprobs=0))
    harness.run()
    told = [each for output in harness.outputs[0] for each in output.logprobs]
    assert [each.top_ids[0] for each in told] == harness.tokens(0)
    assert all(len(set(each.top_ids)) == 3 and list(each.top_logprobs) == sorted(each.top_logprobs)[::-1] for each in told)
    assert all(each.logprob == each.top_logprobs[0] < 0 for each in told)
    assert sum(len(output.prompt_logprobs) for output in harness.outputs[0]) == len(asked("Hello")) - 1


def test_where_nothing_is_allowed_the_request_ends() -> None:
    harness = Harness()
    unanswerable = engine_pb2.Grammar(harmony=True, regex="x{3}")
    forbidden = tuple((encode("x" * count)[0], -100.0) for count in (1, 2, 3) if len(encode("x" * count)) == 1)
    harness.submit(asked("Hello"), Sampling(max_tokens=200, logit_bias=forbidden), unanswerable)
    harness.run()
    assert harness.end(0) is Finish.GRAMMAR


def test_an_idle_plan_takes_no_time() -> None:
    harness = Harness()
    assert len(harness.runner.execute(Plan.idle()).tokens) == 0
    assert MODEL.window == 128
