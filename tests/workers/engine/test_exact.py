"""The engine on the torch runner: what a request yields among 64 others is what it yields alone."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.workers.tiny import TINY, write
from workers.engine.limits import Limits
from workers.engine.plan import Runner
from workers.engine.report import Output
from workers.engine.sampling import Sampling
from workers.engine.stepper import Stepper
from workers.runner.build import build
from workers.runner.spec import RunnerSpec

COUNT, TOKENS = 64, 16
NARROW = tuple((token, 100.0) for token in (20, 21, 22))  # output that repeats itself
LIMITS = Limits(
    vocab_size=TINY.vocab_size,
    stop_token_ids=frozenset(TINY.stop_token_ids),
    max_context=256,
    block_size=8,
    kv_blocks=34,
    sliding_blocks=80,
    window=24,
    max_sequences=16,
    token_budget=96,
    turn_token_id=7,
    draft_sequences=16,
)
Case = tuple[list[int], Sampling]


def cases(greedy: bool) -> list[Case]:
    """Requests of all kinds, many of which begin alike."""
    random_ = random.Random(3)
    documents = [[random_.randrange(10, 4000) for _ in range(90)] for _ in range(4)]
    samplings = [
        Sampling(),
        Sampling(top_p=0.8, top_k=40, min_p=0.01),
        Sampling(logit_bias=NARROW),
        Sampling(temperature=0.0),
        Sampling(repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.5, min_tokens=4),
    ]
    made = []
    for number in range(COUNT):
        prompt = [*random_.choice(documents)[: random_.randrange(91)], random_.randrange(10, 4000)]
        sampling = replace(samplings[number % 5], seed=number, max_tokens=TOKENS, logprobs=2)
        made.append((prompt, replace(sampling, temperature=0.0) if greedy else sampling))
    return made


def run(runner: Runner, limits: Limits, requests: list[Case]) -> tuple[list[list[Output]], Stepper]:
    """Each request's outputs, and the engine that they ran in."""
    stepper = Stepper(runner, limits)
    for number, (prompt, sampling) in enumerate(requests):
        stepper.submit(limits.accept((0, number), prompt, sampling))
    outputs: list[list[Output]] = [[] for _ in requests]
    while stepper.busy:
        for output in stepper.step().outputs:
            outputs[output.key[1]].append(output)
    return outputs, stepper


def tokens(outputs: list[Output]) -> list[int]:
    return [token for output in outputs for token in output.tokens]


@pytest.mark.parametrize("mode", ["float32", "bfloat16 deterministic"])
def test_64_requests_yield_what_each_yields_alone(mode: str, tmp_path: Path) -> None:
    dtype, deterministic = mode.split()[0], "deterministic" in mode
    path = write(tmp_path, replace(TINY, sliding_window=LIMITS.window))
    runner = build(
        RunnerSpec(str(path), dtype=dtype, kv_memory=8 << 20, max_context=256, block_size=8, deterministic=deterministic),
        0,
        None,
    )
    assert runner.kv_blocks >= LIMITS.kv_blocks
    assert runner.sliding_blocks >= LIMITS.sliding_blocks
    requests = cases(greedy=not deterministic)
    together, stepper = run(runner, LIMITS, requests)
    for case, outputs in zip(requests, together, strict=True):
        (alone,), _ = run(runner, replace(LIMITS, draft_sequences=0), [case])
        assert tokens(outputs) == tokens(alone)
        if deterministic:
            scores, expected = ([score for output in some for score in output.logprobs] for some in (outputs, alone))
            assert scores == expected
    usages = [outputs[-1].usage for outputs in together]
    assert stepper.step().load.preemptions > 0
    assert sum(usage.cached_tokens for usage in usages if usage) > 1000
    assert sum(usage.accepted_tokens for usage in usages if usage) > 20
    assert sum(usage.drafted_tokens - usage.accepted_tokens for usage in usages if usage) > 0
