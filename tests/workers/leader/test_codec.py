"""Every field of a Submit reaches the engine, and everything that the engine tells has its place in the protocol."""

from dataclasses import asdict, fields
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from ossia.v1 import engine_pb2
from tests.fakes.runner import FakeRunner
from tests.workers.leader.harness import LIMITS
from workers.engine.errors import Cause, Refusal
from workers.engine.report import KvEvents, Load, Usage
from workers.engine.request import Finish
from workers.engine.sampling import RepetitionDetection, Sampling
from workers.engine.stepper import Stepper
from workers.leader import codec

EVERYTHING = engine_pb2.Sampling(
    temperature=0.5,
    top_p=0.25,
    top_k=7,
    seed=2**64 - 1,
    max_tokens=9,
    stop_token_ids=[4, 5],
    logprobs=0,
    min_p=0.125,
    presence_penalty=-1.5,
    frequency_penalty=1.25,
    repetition_penalty=1.5,
    logit_bias=[engine_pb2.LogitBias(id=6, bias=-100.0), engine_pb2.LogitBias(id=8, bias=2.5)],
    min_tokens=3,
    ignore_eos=True,
    prompt_logprobs=2,
    repetition_detection=engine_pb2.RepetitionDetection(max_pattern_size=9, min_pattern_size=2, min_count=3),
)


def test_every_setting_has_the_name_it_has_in_the_protocol() -> None:
    assert {field.name for field in fields(Sampling)} == {field.name for field in engine_pb2.Sampling.DESCRIPTOR.fields}


def test_every_setting_is_taken_as_it_is() -> None:
    assert {field.name for field, _ in EVERYTHING.ListFields()} == set(engine_pb2.Sampling.DESCRIPTOR.fields_by_name)
    assert codec.sampling(EVERYTHING) == Sampling(
        temperature=0.5,
        top_p=0.25,
        top_k=7,
        min_p=0.125,
        seed=2**64 - 1,
        max_tokens=9,
        min_tokens=3,
        stop_token_ids=(4, 5),
        ignore_eos=True,
        presence_penalty=-1.5,
        frequency_penalty=1.25,
        repetition_penalty=1.5,
        logit_bias=((6, -100.0), (8, 2.5)),
        logprobs=0,
        prompt_logprobs=2,
        repetition_detection=RepetitionDetection(9, 2, 3),
    )


def test_what_is_absent_takes_the_defaults_and_what_is_zero_does_not() -> None:
    assert codec.sampling(engine_pb2.Sampling(seed=0)) == Sampling()
    zeros = codec.sampling(engine_pb2.Sampling(seed=0, temperature=0, top_k=0, max_tokens=0, logprobs=0, prompt_logprobs=0))
    assert zeros == Sampling(temperature=0.0, max_tokens=0, logprobs=0, prompt_logprobs=0)
    detection = engine_pb2.RepetitionDetection(max_pattern_size=4, min_count=2)
    assert codec.sampling(engine_pb2.Sampling(seed=0, repetition_detection=detection)).repetition_detection == (
        RepetitionDetection(4, 1, 2)
    )


def test_a_submit_becomes_a_request() -> None:
    submit = engine_pb2.Submit(
        prompt=range(10, 20),
        sampling=EVERYTHING,
        resume=engine_pb2.Resume(prompt_logprobs=3),
        priority=-2,
        deadline_unix_ms=1500,
        cache_salt=b"salt",
    )
    request = codec.request((3, 4), submit, LIMITS)
    plain = codec.request((3, 4), engine_pb2.Submit(prompt=range(10, 20)), LIMITS)
    assert (request.key, request.priority, request.deadline_s, request.scored) == ((3, 4), -2, 1.5, 3)
    assert plain.chain.names[0] != request.chain.names[0]
    submit.resume.tokens.extend([21, 22])
    resumed = codec.request((3, 4), submit, LIMITS)
    assert (list(resumed.output), resumed.unscored, resumed.chain.names[:2]) == ([21, 22], 0, request.chain.names[:2])


def test_more_log_probabilities_than_the_prompt_has_cannot_have_been_told() -> None:
    submit = engine_pb2.Submit(prompt=[1, 2, 3], resume=engine_pb2.Resume(prompt_logprobs=3))
    with pytest.raises(Refusal) as caught:
        codec.request((0, 0), submit, LIMITS)
    assert (caught.value.reason, caught.value.field) == ("RESUME_MISMATCH", "resume.prompt_logprobs")


def test_every_end_and_cause_has_a_code() -> None:
    assert set(codec.FINISHES) == set(Finish)
    assert set(codec.CODES) == set(Cause)
    for finish, value in codec.FINISHES.items():
        told = Finish.GRAMMAR if finish is Finish.GRAMMAR_FAILED else finish  # whose fault it is concerns us alone
        assert engine_pb2.FinishReason.Name(value) == f"FINISH_REASON_{told.name}"


def test_what_is_told_has_the_names_it_has_in_the_protocol() -> None:
    usage = Usage(1, 2, 3, 4, 5)
    assert {field.name: value for field, value in codec.usage(usage).ListFields()} == asdict(usage)
    load = Load(1, 2, 3, 4, 5, 6, 7.5, 8, 9)
    told = {field.name: value for field, value in codec.load(load).ListFields()}
    ours = {"preemptions", "sliding_tokens_used", "sliding_tokens_total"}  # what metrics alone tell
    assert told == {name: value for name, value in asdict(load).items() if name not in ours}
    events = KvEvents(3, True, (b"a",), (b"b",), (b"c",), (b"d",))
    message = codec.kv_events(events, 7, 16)
    assert (message.epoch, message.block_size) == (7, 16)
    assert all(list(getattr(message, name)) == list(value) for name, value in asdict(events).items() if "_" in name)
    assert (message.sequence, message.snapshot) == (3, True)


NAN, INFINITE = float("nan"), float("inf")
ODD = st.sampled_from([*[0, 1, 2, 20] * 5, 21, 96, 97, 2**31, 2**32 - 1])
FLOATS = st.sampled_from([*[0.25, 0.5, 1.0] * 8, 0.0, 1e-45, 2.0, -1.0, 1e30, NAN, INFINITE])
KINDS: dict[int, st.SearchStrategy[object]] = {
    FieldDescriptor.TYPE_FLOAT: FLOATS,
    FieldDescriptor.TYPE_UINT32: ODD,
    FieldDescriptor.TYPE_FIXED64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
}
SCALARS = [field for field in engine_pb2.Sampling.DESCRIPTOR.fields if field.name in codec.SCALARS]
TOKENS = st.lists(st.sampled_from([*range(97), 97, 2**32 - 1]), max_size=5)


@given(
    values=st.fixed_dictionaries({}, optional={field.name: KINDS[field.type] for field in SCALARS}),
    stops=TOKENS,
    bias=st.lists(st.tuples(st.integers(0, 96), FLOATS), max_size=3),
    prompt=TOKENS.filter(len) | st.just([]),
    resume=TOKENS,
    told=st.sampled_from([0, 0, 0, 1, 2**32 - 1]),
    deadline=st.none() | st.integers(-(2**63), 2**63 - 1),
    priority=st.integers(-(2**31), 2**31 - 1),
)
def test_whatever_a_submit_says_it_runs_or_is_refused(
    values: dict[str, Any],
    stops: list[int],
    bias: list[tuple[int, float]],
    prompt: list[int],
    resume: list[int],
    told: int,
    deadline: int | None,
    priority: int,
) -> None:
    biases = [engine_pb2.LogitBias(id=token, bias=value) for token, value in bias]
    sampling = engine_pb2.Sampling(**values, stop_token_ids=stops, logit_bias=biases)
    resumed = engine_pb2.Resume(tokens=resume, prompt_logprobs=told)
    submit = engine_pb2.Submit(prompt=prompt, sampling=sampling, resume=resumed, priority=priority, deadline_unix_ms=deadline)
    runner = FakeRunner(LIMITS.kv_blocks, LIMITS.block_size, window=LIMITS.window)
    stepper = Stepper(runner, LIMITS, clock=lambda: 0.0)
    try:
        stepper.submit(codec.request((0, 0), submit, LIMITS))
    except Refusal as refusal:
        assert refusal.cause is Cause.INVALID
        assert refusal.field
        return
    outputs = [output for _ in range(4) for output in stepper.step().outputs]
    assert not any(isinstance(output.end, Refusal) for output in outputs)
    assert outputs
