"""What weights that say nothing write under grammars, through the real scheduler."""

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import jsonschema
import pytest
from llguidance import LLParserLimits

from ossia.common.vocabulary import CALL, END, MESSAGE, RETURN, SIZE
from ossia.v1 import engine_pb2
from tests.fakes.uniform import UniformRunner
from tests.workers.grammar.corpus import BOUNDED, OPEN, REFUSED, Schema, goes_on, satisfies
from tests.workers.grammar.walks import parse, start, text
from workers import grammar
from workers.engine.errors import Cause, Refusal
from workers.engine.limits import Limits
from workers.engine.request import Finish
from workers.engine.sampling import Sampling
from workers.engine.stepper import Stepper
from workers.grammar import content

LIMITS = Limits(
    vocab_size=SIZE,
    stop_token_ids=frozenset({RETURN, CALL}),
    max_context=2048,
    block_size=16,
    kv_blocks=2048,
    sliding_blocks=2048,
    window=128,
    max_sequences=64,
    token_budget=512,
)
PROMPT = [1000, 1001, 1002]


@dataclass
class Written:
    """What one request yielded."""

    tokens: list[int] = field(default_factory=list)
    end: object = None
    drafted: int = 0
    accepted: int = 0

    @property
    def body(self) -> list[int]:
        """The tokens behind the last header, without the end."""
        begin = len(self.tokens) - self.tokens[::-1].index(MESSAGE) if MESSAGE in self.tokens else len(self.tokens)
        return self.tokens[begin : len(self.tokens) - (self.end is Finish.STOP)]


def turn(schema: Schema) -> engine_pb2.Grammar:
    """A whole harmony turn, of which the final channel is held to the schema."""
    return engine_pb2.Grammar(harmony=True, json_schema=json.dumps(schema), reasoning_tokens=3)


def write(
    messages: Iterable[engine_pb2.Grammar],
    max_tokens: int,
    limits: Limits = LIMITS,
    resume: Mapping[int, list[int]] | None = None,
) -> tuple[list[Written], int]:
    """The outputs of requests that run together, each with its number for a seed, and how often one was preempted."""
    stepper = Stepper(UniformRunner(SIZE), limits)
    written: list[Written] = []
    for number, message in enumerate(messages):
        sampling = Sampling(temperature=1.0, seed=number, max_tokens=max_tokens)
        tokens = (resume or {}).get(number, [])
        stepper.submit(limits.accept((0, number), PROMPT, sampling, resume=tokens, grammar=start(message)))
        written.append(Written(list(tokens)))
    preemptions = 0
    while stepper.busy:
        report = stepper.step()
        preemptions = report.load.preemptions
        for output in report.outputs:
            each = written[output.key[1]]
            each.tokens += output.tokens
            each.end = output.end or each.end
            if output.usage is not None:
                each.drafted, each.accepted = output.usage.drafted_tokens, output.usage.accepted_tokens
    return written, preemptions


@cache
def bounded() -> dict[str, Written]:
    return dict(zip(BOUNDED, write(map(turn, BOUNDED.values()), 1500)[0], strict=True))


@cache
def unbounded() -> dict[str, Written]:
    return dict(zip(OPEN, write(map(turn, OPEN.values()), 80)[0], strict=True))


def test_the_corpus() -> None:
    assert len(BOUNDED) >= 100 and len(OPEN) >= 100
    for schema in (*BOUNDED.values(), *OPEN.values()):
        jsonschema.Draft202012Validator.check_schema(schema)


def test_nearly_all_outputs_of_bounded_schemas_end() -> None:
    cut = [name for name, each in bounded().items() if each.end is not Finish.STOP]
    assert len(cut) <= len(BOUNDED) // 20, cut


@pytest.mark.parametrize("name", [*BOUNDED, *OPEN])
def test_what_ends_satisfies_its_schema_and_what_is_cut_goes_on(name: str) -> None:
    written, schema = (bounded()[name], BOUNDED[name]) if name in BOUNDED else (unbounded()[name], OPEN[name])
    if written.end is Finish.STOP:
        *_, last = parse(written.tokens)
        assert (last.channel, last.content[0].text) == ("final", text(written.body))
        assert satisfies(text(written.body), schema), text(written.body)
    else:
        assert written.end is Finish.LENGTH
        assert goes_on(written.body, schema), written.body


def test_all_that_a_grammar_forces_is_drafted_and_right() -> None:
    """Drafts by look-up, of which some are wrong, are for few requests at once."""
    for name, written in bounded().items():
        assert written.drafted == written.accepted, name
        assert written.drafted or written.end is not Finish.STOP, name


@pytest.mark.parametrize("name", REFUSED)
def test_a_schema_that_cannot_be_held_is_refused(name: str) -> None:
    with pytest.raises(Refusal) as caught:
        grammar.compile(engine_pb2.Grammar(json_schema=json.dumps(REFUSED[name])), SIZE)
    error = caught.value
    assert (error.cause, error.field, error.reason) == (Cause.INVALID, "grammar.json_schema", "UNSUPPORTED_GRAMMAR")
    assert "\n" not in error.message and len(error.message) < 400


MIXED = [turn(schema) for schema in [*BOUNDED.values()][::5]] + [
    engine_pb2.Grammar(regex="[a-z]{1,40}"),
    engine_pb2.Grammar(choice=engine_pb2.Choice(texts=["yes", "no", "🏔"])),
    engine_pb2.Grammar(lark='start: "(" start ")" | /[a-z]{1,3}/'),
    engine_pb2.Grammar(
        harmony=True,
        functions=[engine_pb2.Function(recipient="functions.f", parameters=json.dumps(BOUNDED["person"]))],
        tool_choice=engine_pb2.TOOL_CHOICE_REQUIRED,
        reasoning_tokens=5,
    ),
]


def test_preempted_requests_write_what_each_writes_alone() -> None:
    """Drafts that look-up proposes for few requests, and recomputation, leave the states of grammars as they were."""
    tight = replace(LIMITS, block_size=4, kv_blocks=32, max_context=120, draft_sequences=64)
    together, preemptions = write(MIXED, 100, tight)
    assert preemptions
    alone, none = write(MIXED, 100)
    assert not none
    for one, other in zip(together, alone, strict=True):
        assert (one.tokens, one.end) == (other.tokens, other.end)


def test_an_output_goes_on_from_wherever_it_was_cut() -> None:
    """Another engine knows nothing but the tokens so far."""
    source = random.Random(0)
    whole, _ = write(MIXED, 100)
    cuts = {number: each.tokens[: source.randrange(1, len(each.tokens))] for number, each in enumerate(whole)}
    resumed, _ = write(MIXED, 100, resume=cuts)
    assert [each.tokens for each in resumed] == [each.tokens for each in whole]


def test_what_the_grammar_forbids_cannot_be_gone_on_from() -> None:
    with pytest.raises(Refusal) as caught:
        write([turn(BOUNDED["person"])], 10, resume={0: [MESSAGE, END]})
    assert (caught.value.reason, caught.value.field) == ("RESUME_MISMATCH", "resume.tokens")


def test_where_the_library_gives_up_the_request_ends_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_LIMITS", LLParserLimits(max_lexer_states=2000, verbose_errors=False))
    [written], _ = write([engine_pb2.Grammar(lark="start: /(?s:.*)[ab](?s:.){14}z/")], 1500)
    assert written.end is Finish.GRAMMAR
    assert 0 < len(written.tokens) < 1500
