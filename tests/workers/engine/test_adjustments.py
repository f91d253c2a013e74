"""Penalties, biases and bans, against their definitions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.adjustments import Adjustments, adjustments
from workers.engine.sampling import Sampling

ids = st.integers(0, 9)
samplings = st.builds(
    Sampling,
    presence_penalty=st.sampled_from([0.0, 1.5, -0.3]),
    frequency_penalty=st.sampled_from([0.0, 0.1, -2.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    min_tokens=st.integers(0, 6),
    logit_bias=st.dictionaries(ids, st.sampled_from([-100.0, -1.0, 0.0, 4.0])).map(lambda bias: tuple(bias.items())),
)


@given(
    samplings, st.frozensets(ids, max_size=3), st.lists(ids, max_size=8), st.lists(ids, max_size=12), st.lists(ids, max_size=4)
)
def test_they_are_functions_of_prompt_and_output(
    sampling: Sampling, stops: frozenset[int], prompt: list[int], output: list[int], drafts: list[int]
) -> None:
    made = Adjustments(sampling, stops, np.array(prompt, np.int32))
    for token in [*output, *drafts]:
        made.add(token)
    for token in drafts:
        made.add(token, -1)
    expected = dict.fromkeys(range(10), np.float32(0))
    biases = {token: -np.inf if bias == -100 else bias for token, bias in sampling.logit_bias}
    for token in expected:
        count = output.count(token)
        penalty = sampling.presence_penalty * (count > 0) + sampling.frequency_penalty * count
        expected[token] = np.float32(biases.get(token, 0.0)) - np.float32(penalty)
        if token in stops and len(output) < sampling.min_tokens:
            expected[token] = np.float32(-np.inf)
    changed, values = made.bias(len(output))
    assert len(set(changed.tolist())) == len(changed)
    assert dict(zip(changed.tolist(), values, strict=True)) == {token: value for token, value in expected.items() if value}
    seen = set(prompt + output) if sampling.repetition_penalty != 1 else set()
    assert sorted(made.seen.tolist()) == sorted(seen)


def test_requests_that_need_nothing_special_have_none() -> None:
    prompt = np.array([1, 2], np.int32)
    assert adjustments(Sampling(temperature=0.5, top_p=0.9, logprobs=3), [3], prompt) is None
    for special in (Sampling(min_tokens=1), Sampling(repetition_penalty=1.1), Sampling(logit_bias=((1, 0.5),))):
        assert adjustments(special, [3], prompt) is not None
