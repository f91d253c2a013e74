"""Requests on a virtual clock: times that can be worked out by hand, and the same ones at every run."""

import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from ossia.common.vocabulary import SIZE, decode
from ossia.v1 import engine_pb2
from tests.workers.simulated.harness import asked
from workers import grammar
from workers.engine.errors import Refusal
from workers.engine.request import Finish
from workers.engine.sampling import Sampling
from workers.simulated.build import spec
from workers.simulated.simulation import Arrival, simulate

COSTS = (1.0, 0.01, 0.1, 0.0)


def test_times_are_those_of_the_steps() -> None:
    prompt = asked("Hello")
    (served,) = simulate([Arrival(5.0, prompt, Sampling(max_tokens=3, logprobs=0))], spec(step_costs=COSTS))
    first = 5.0 + 1.0 + 0.01 * (len(prompt) - 1) + 0.1
    assert (served.arrived_s, len(served.tokens), served.end) == (5.0, 3, Finish.LENGTH)
    assert served.first_token_s == pytest.approx(first)
    assert served.ended_s == pytest.approx(first + 2 * 1.1)


def test_two_share_steps_and_a_prefix() -> None:
    prompt = [*asked("Hello"), *range(1000, 1100)]
    late = Arrival(100.0, prompt, Sampling(seed=2, max_tokens=2))
    first, second, third = simulate([late, Arrival(0.0, prompt, Sampling(seed=1, max_tokens=2)), late], spec(step_costs=COSTS))
    assert second.usage
    assert second.usage.cached_tokens == 0
    for served in (first, third):
        assert served.usage
        assert served.usage.cached_tokens == (len(prompt) - 1) // 16 * 16
        assert served.ended_s == first.ended_s
    assert first.tokens == third.tokens


def test_deadlines_and_refusals_are_told() -> None:
    prompt = asked("Give me 500 words")
    late, long, full = simulate(
        [
            Arrival(0.0, prompt, deadline_s=20.0),
            Arrival(0.0, prompt, Sampling(max_tokens=100_000)),
            Arrival(2.0, prompt, Sampling(max_tokens=1), priority=1),
        ],
        spec(step_costs=COSTS),
    )
    assert late.end is Finish.DEADLINE
    assert 20.0 <= late.ended_s < 22.0
    assert isinstance(long.end, Refusal)
    assert (long.end.field, long.ended_s) == ("sampling.max_tokens", 0.0)
    assert full.end is Finish.LENGTH


def arrivals(count: int, most: int = 24) -> list[Arrival]:
    """A steady load of prompts, a part of which begin alike, with fewer than `most` tokens of output."""
    chance, at, common = random.Random(7), 0.0, [1000 + index for index in range(48)]
    made = []
    for number in range(count):
        at += chance.expovariate(2000.0)
        prompt = [*(common if chance.random() < 0.5 else []), *(chance.randrange(1000, 100_000) for _ in range(24))]
        made.append(Arrival(at, prompt, Sampling(seed=number, max_tokens=chance.randrange(1, most))))
    return made


def test_a_load_comes_out_the_same_every_time() -> None:
    loaded = spec(max_sequences=128, token_budget=2048)
    first, second = simulate(arrivals(500), loaded), simulate(arrivals(500), loaded)
    assert first == second
    assert all(served.end in (Finish.LENGTH, Finish.STOP) for served in first)
    assert sum(served.usage.cached_tokens for served in first if served.usage) > 48 * 200
    assert all(
        served.first_token_s is not None and served.arrived_s < served.first_token_s <= served.ended_s for served in first
    )


DIGEST = """
import hashlib
from tests.workers.simulated.test_simulation import arrivals
from workers.simulated.build import spec
from workers.simulated.simulation import simulate
served = simulate(arrivals(10_000, most=8), spec(max_sequences=256, token_budget=2048))
told = [(each.tokens, each.first_token_s, each.ended_s, each.usage) for each in served]
print(sum(each.usage is not None for each in served), hashlib.sha256(repr(told).encode()).hexdigest())
"""


def test_ten_thousand_requests_come_out_the_same_in_two_processes() -> None:
    """With hashes of text seeded otherwise, as Python does at every start."""

    def digest(seed: str) -> str:
        command, environment = [sys.executable, "-c", DIGEST], {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment).stdout

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(digest, ("1", "2"))
    ended, sha256 = first.split()
    assert (int(ended), len(sha256)) == (10_000, 64)
    assert first == second


def test_arrivals_are_used_again_with_what_they_are_held_to() -> None:
    held = grammar.compile(engine_pb2.Grammar(regex="[ab]{3}"), SIZE)
    one = Arrival(0.0, [1000] * 8, grammar=held)
    texts = [decode(served.tokens[:-1]) for _ in range(2) for served in simulate([one, one], spec(step_costs=COSTS))]
    assert [len(text) for text in texts] == [3, 3, 3, 3]
    assert set("".join(texts)) <= {"a", "b"}
