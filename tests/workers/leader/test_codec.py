"""Every field of a Submit reaches the engine, and everything that the engine tells has its place in the protocol."""

from dataclasses import asdict, fields

import pytest

from ossia.v1 import engine_pb2
from tests.fakes.grammar import FakeGrammar
from tests.workers.leader.harness import LIMITS
from workers.engine.errors import Cause, Refusal
from workers.engine.report import KvEvents, Load, Usage
from workers.engine.request import Finish
from workers.engine.sampling import Sampling
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
    )


def test_what_is_absent_takes_the_defaults_and_what_is_zero_does_not() -> None:
    assert codec.sampling(engine_pb2.Sampling(seed=0)) == Sampling()
    zeros = codec.sampling(engine_pb2.Sampling(seed=0, temperature=0, top_k=0, max_tokens=0, logprobs=0, prompt_logprobs=0))
    assert zeros == Sampling(temperature=0.0, max_tokens=0, logprobs=0, prompt_logprobs=0)


def test_a_submit_becomes_a_request() -> None:
    submit = engine_pb2.Submit(
        prompt=range(10, 20),
        sampling=EVERYTHING,
        resume=engine_pb2.Resume(prompt_logprobs=3),
        priority=-2,
        deadline_unix_ms=1500,
        cache_salt=b"salt",
    )
    grammar = FakeGrammar(1)
    request = codec.request((3, 4), submit, LIMITS, grammar)
    plain = codec.request((3, 4), engine_pb2.Submit(prompt=range(10, 20)), LIMITS)
    assert (request.key, request.priority, request.deadline_s, request.scored) == ((3, 4), -2, 1.5, 3)
    assert request.grammar is grammar
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
    assert len(set(codec.FINISHES.values())) == len(Finish)
    assert set(codec.CODES) == set(Cause)
    for finish, value in codec.FINISHES.items():
        assert engine_pb2.FinishReason.Name(value) == f"FINISH_REASON_{finish.name}"


def test_what_is_told_has_the_names_it_has_in_the_protocol() -> None:
    usage = Usage(1, 2, 3, 4, 5)
    assert {field.name: value for field, value in codec.usage(usage).ListFields()} == asdict(usage)
    load = Load(1, 2, 3, 4, 5, 6, 7.5, 8, 9)
    told = {field.name: value for field, value in codec.load(load).ListFields()}
    assert told == {name: value for name, value in asdict(load).items() if name != "preemptions"}
    events = KvEvents(3, True, (b"a",), (b"b",), (b"c",), (b"d",))
    message = codec.kv_events(events, 7, 16)
    assert (message.epoch, message.block_size) == (7, 16)
    assert all(list(getattr(message, name)) == list(value) for name, value in asdict(events).items() if "_" in name)
    assert (message.sequence, message.snapshot) == (3, True)
