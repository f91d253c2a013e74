"""Outputs that repeat themselves end, whatever was drafted, at the token with which they do."""

import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.runner import alone, repeats
from tests.workers.engine.harness import GREEDY, Harness, limits
from workers.engine.errors import Refusal
from workers.engine.ints import Array
from workers.engine.repetition import Repetition
from workers.engine.request import Finish
from workers.engine.sampling import RepetitionDetection, Sampling

NARROW = tuple((token, 50.0) for token in (20, 21, 22))  # hardly any other token is sampled
wanted = st.builds(
    lambda least, more, count: RepetitionDetection(least + more, least, count),
    st.integers(1, 4),
    st.integers(0, 4),
    st.integers(2, 4),
)
tokens = st.lists(st.integers(0, 2), max_size=40)


def fed(asked: RepetitionDetection, output: Sequence[int] | Array) -> Repetition:
    repetition, array = Repetition(asked), np.array(output, np.int32)
    for length in range(1, len(output) + 1):
        repetition.add(array[:length])
    return repetition


@given(wanted, tokens, tokens)
def test_a_resumed_output_is_read_from_behind(asked: RepetitionDetection, resumed: list[int], more: list[int]) -> None:
    sampling = Sampling(repetition_detection=asked)
    request = limits().accept((0, 0), [9], sampling, resume=resumed)
    for length in range(len(resumed), len(resumed) + len(more) + 1):
        request.extend(more[: length - len(resumed)][-1:])
        assert request.repetition is not None
        assert request.repetition.found == repeats(request.output.tolist(), asked)


def test_what_is_long_past_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(Repetition, "add", lambda self, output: read.append(len(output)))
    limits().accept((0, 0), [9], Sampling(repetition_detection=RepetitionDetection(3, 1, 2)), resume=[20] * 50)
    assert read == [45, 46, 47, 48, 49, 50]


@given(wanted, tokens)
def test_equals_the_definition(asked: RepetitionDetection, output: list[int]) -> None:
    repetition, array = Repetition(asked), np.array(output, np.int32)
    for length in range(1, len(output) + 1):
        repetition.add(array[:length])
        assert repetition.found == repeats(output[:length], asked)


@given(wanted, tokens, st.lists(st.integers(0, 2), max_size=8))
def test_tokens_before_a_repetition(asked: RepetitionDetection, output: list[int], more: list[int]) -> None:
    spared = fed(asked, output).before(np.array(output, np.int32), more)
    ends = [count for count in range(len(more)) if repeats([*output, *more[: count + 1]], asked)]
    assert spared == (ends[0] if ends else len(more))


@pytest.mark.parametrize("sequences", [0, 4])
@pytest.mark.parametrize("min_tokens", [0, 20])
def test_an_output_ends_where_it_repeats_itself(sequences: int, min_tokens: int) -> None:
    asked = RepetitionDetection(8, min_count=8)
    sampling = Sampling(
        temperature=0.0, max_tokens=50, min_tokens=min_tokens, ignore_eos=True, logit_bias=NARROW, repetition_detection=asked
    )
    harness = Harness(limits(draft_sequences=sequences), memory=1)
    harness.submit(0, [9], sampling)
    harness.run()
    assert harness.end(0) is Finish.REPETITION
    assert harness.tokens(0) == alone([9], sampling, (), memory=1)
    assert min_tokens <= len(harness.tokens(0)) < 50
    assert bool(harness.usage(0).accepted_tokens) == bool(sequences)


def test_what_was_resumed_counts() -> None:
    harness = Harness()
    asked = Sampling(temperature=0.0, max_tokens=9, repetition_detection=RepetitionDetection(1, min_count=4))
    harness.submit(0, [9], asked, resume=[20, 20, 20, 20])
    harness.submit(1, [9], GREEDY, resume=[20, 20, 20, 20])
    harness.run()
    assert (harness.end(0), harness.tokens(0)) == (Finish.REPETITION, [])
    assert harness.end(1) is not Finish.REPETITION


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (RepetitionDetection(0, 1, 2), "max_pattern_size"),
        (RepetitionDetection(1025, 1, 2), "max_pattern_size"),
        (RepetitionDetection(4, 5, 2), "min_pattern_size"),
        (RepetitionDetection(4, 0, 2), "min_pattern_size"),
        (RepetitionDetection(4, 1, 1), "min_count"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: RepetitionDetection, field: str) -> None:
    with pytest.raises(Refusal, match=field) as refused:
        Harness().submit(0, [9], Sampling(repetition_detection=asked))
    assert refused.value.field == f"sampling.repetition_detection.{field}"


def test_a_token_costs_microseconds() -> None:
    output = np.zeros(4096, np.int32)
    repetition = fed(RepetitionDetection(1024, 1, 1 << 31), output[:2048])
    took = []
    for length in range(2048, 4096):
        started = time.perf_counter()
        repetition.add(output[:length])
        took.append(time.perf_counter() - started)
    assert sorted(took)[len(took) // 2] < 100e-6
