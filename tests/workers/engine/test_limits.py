"""What is refused at submit names the field at fault, and the rest becomes a request."""

from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.grammar import FakeGrammar
from tests.fakes.runner import STOP, VOCAB, alone
from tests.workers.engine.harness import GREEDY, limits
from workers.engine.errors import Cause, Refusal
from workers.engine.grammar import allows
from workers.engine.sampling import Sampling

NAN = float("nan")


def refusal(prompt: list[int], sampling: Sampling, **fields: Any) -> tuple[Cause, str, str]:
    with pytest.raises(Refusal) as caught:
        limits().accept((0, 0), prompt, sampling, **fields)
    return caught.value.cause, caught.value.reason, caught.value.field


@pytest.mark.parametrize(
    ("prompt", "sampling", "resume", "reason", "field"),
    [
        ([], GREEDY, [], "EMPTY_PROMPT", "prompt"),
        ([VOCAB], GREEDY, [], "TOKEN_OUT_OF_RANGE", "prompt"),
        ([1], GREEDY, [VOCAB], "TOKEN_OUT_OF_RANGE", "resume.tokens"),
        ([1], GREEDY, [9, STOP, 9], "RESUME_MISMATCH", "resume.tokens"),
        ([1] * 64, GREEDY, [], "CONTEXT_LENGTH_EXCEEDED", "prompt"),
        ([1] * 60, Sampling(max_tokens=5), [], "CONTEXT_LENGTH_EXCEEDED", "sampling.max_tokens"),
        ([1] * 60, Sampling(min_tokens=5), [], "CONTEXT_LENGTH_EXCEEDED", "sampling.min_tokens"),
        ([1], Sampling(min_tokens=5, max_tokens=4), [], "SAMPLING_CONTRADICTORY", "sampling.min_tokens"),
        ([1], Sampling(logit_bias=((4, 1.0), (4, 2.0))), [], "SAMPLING_CONTRADICTORY", "sampling.logit_bias"),
        ([1], Sampling(logit_bias=((VOCAB, 1.0),)), [], "TOKEN_OUT_OF_RANGE", "sampling.logit_bias"),
        ([1], Sampling(stop_token_ids=(4, VOCAB)), [], "TOKEN_OUT_OF_RANGE", "sampling.stop_token_ids"),
    ],
)
def test_what_contradicts_itself_or_does_not_fit(
    prompt: list[int], sampling: Sampling, resume: list[int], reason: str, field: str
) -> None:
    assert refusal(prompt, sampling, resume=resume) == (Cause.INVALID, reason, field)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("temperature", value) for value in (-0.1, 2.1, NAN)],
        *[("top_p", value) for value in (0.0, 1.1, NAN)],
        *[("top_k", value) for value in (-1, VOCAB + 1)],
        *[("min_p", value) for value in (-0.1, 1.1, NAN)],
        *[("max_tokens", -1), ("min_tokens", -1)],
        *[(name, value) for name in ("presence_penalty", "frequency_penalty") for value in (-2.1, 2.1, NAN)],
        *[("repetition_penalty", value) for value in (0.0, 1e-30, 2.1, NAN)],
        *[("logit_bias", ((1, value),)) for value in (-100.5, 100.5, NAN)],
        ("logit_bias", tuple((token, 1.0) for token in range(1025))),
        ("stop_token_ids", (4,) * 257),
        *[(name, value) for name in ("logprobs", "prompt_logprobs") for value in (-2, 21)],
        *[("seed", value) for value in (-1, 1 << 64)],
    ],
)
def test_what_is_out_of_range(name: str, value: Any) -> None:
    assert refusal([1], replace(Sampling(), **{name: value})) == (Cause.INVALID, "SAMPLING_OUT_OF_RANGE", f"sampling.{name}")


def test_the_ends_of_every_range_are_accepted() -> None:
    for sampling in (
        Sampling(0.0, 1e-9, 0, 0.0, 0, 0, 0, (), False, -2.0, -2.0, 1e-9, ((0, -100.0),), -1, -1),
        Sampling(2.0, 1.0, VOCAB, 1.0, (1 << 64) - 1, 9, 9, (VOCAB - 1,), True, 2.0, 2.0, 2.0, ((VOCAB - 1, 100.0),), 20, 20),
    ):
        assert limits().accept((0, 0), [1], sampling).sampling is sampling


def test_what_ignores_its_end_has_no_grammar() -> None:
    found = refusal([1], Sampling(ignore_eos=True), grammar=FakeGrammar(0))
    assert found == (Cause.INVALID, "SAMPLING_CONTRADICTORY", "sampling.ignore_eos")


def test_the_models_stops_count_unless_they_are_to_be_ignored() -> None:
    assert limits().accept((0, 0), [1], Sampling(stop_token_ids=(4,))).stops == {STOP, 4}
    assert limits().accept((0, 0), [1], Sampling(stop_token_ids=(4,), ignore_eos=True)).stops == {4}


def test_a_resumed_output_is_replayed_to_its_grammar() -> None:
    sampling = Sampling(temperature=0.0, max_tokens=8)
    whole = alone([1], sampling, grammar=FakeGrammar(0, ends=False))
    grammar = FakeGrammar(0, ends=False)
    limits().accept((0, 0), [1], sampling, resume=whole[:5], grammar=grammar)
    assert grammar.accepted == whole[:5]
    seed = next(seed for seed in range(99) if not allows(FakeGrammar(seed).mask(), 9))
    assert refusal([1], sampling, resume=[9], grammar=FakeGrammar(seed))[1:] == ("RESUME_MISMATCH", "resume.tokens")
