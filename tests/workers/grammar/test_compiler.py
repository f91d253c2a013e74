import gc
import json
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from ossia.common.vocabulary import SIZE, encode
from ossia.v1 import engine_pb2
from tests.workers.grammar.walks import ids, start, walk
from workers import grammar
from workers.engine.errors import Cause, Refusal
from workers.grammar import compiler

REQUIRED = engine_pb2.TOOL_CHOICE_REQUIRED


def function(recipient: str, parameters: str | None = None) -> engine_pb2.Function:
    return engine_pb2.Function(recipient=recipient, parameters=parameters)


def unknown() -> engine_pb2.Grammar:
    """A kind of content that a later protocol may have."""
    return engine_pb2.Grammar.FromString(engine_pb2.Grammar(harmony=True).SerializeToString() + b"\x9a\x06\x01x")


@pytest.mark.parametrize(
    ("message", "field", "reason"),
    [
        (unknown(), "grammar", "UNKNOWN_GRAMMAR"),
        (engine_pb2.Grammar(harmony=True, tool_choice=9), "grammar.tool_choice", "UNKNOWN_TOOL_CHOICE"),  # type: ignore[arg-type]
        (engine_pb2.Grammar(harmony=True, tool_choice=REQUIRED), "grammar.tool_choice", "INVALID_GRAMMAR"),
        (engine_pb2.Grammar(functions=[function("functions.f")]), "grammar.functions", "INVALID_GRAMMAR"),
        (engine_pb2.Grammar(tool_choice=REQUIRED), "grammar.tool_choice", "INVALID_GRAMMAR"),
        (engine_pb2.Grammar(reasoning_tokens=0), "grammar.reasoning_tokens", "INVALID_GRAMMAR"),
        (engine_pb2.Grammar(choice=engine_pb2.Choice()), "grammar.choice.texts", "INVALID_GRAMMAR"),
        (engine_pb2.Grammar(choice=engine_pb2.Choice(texts=["a", ""])), "grammar.choice.texts", "INVALID_GRAMMAR"),
        (
            engine_pb2.Grammar(harmony=True, functions=[function(f"functions.f{n}") for n in range(257)]),
            "grammar.functions",
            "GRAMMAR_TOO_LARGE",
        ),
        (
            engine_pb2.Grammar(
                harmony=True, functions=[function(f"functions.f{n}", " " * (1 << 13) + "{}") for n in range(128)]
            ),
            "grammar",
            "GRAMMAR_TOO_LARGE",
        ),
        *(
            (
                engine_pb2.Grammar(harmony=True, functions=[function("functions.f"), function(name)]),
                "grammar.functions[1].recipient",
                "INVALID_GRAMMAR",
            )
            for name in ("", "functions.f", "a b", "functions.é", "all", "assistant", "a<|message|>", "x" * 300, "a\n")
        ),
        *(
            (
                engine_pb2.Grammar(harmony=True, functions=[function("functions.f", parameters)]),
                "grammar.functions[0].parameters",
                reason,
            )
            for parameters, reason in (
                ("", "INVALID_GRAMMAR"),
                ("[", "INVALID_GRAMMAR"),
                ('{"not": {}}', "UNSUPPORTED_GRAMMAR"),
                (json.dumps({"const": "a" * (1 << 18)}), "GRAMMAR_TOO_LARGE"),
            )
        ),
    ],
)
def test_refusals_name_the_field(message: engine_pb2.Grammar, field: str, reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        grammar.compile(message, SIZE)
    assert (caught.value.cause, caught.value.field, caught.value.reason) == (Cause.INVALID, field, reason)


def test_a_model_with_another_vocabulary_has_no_grammars() -> None:
    with pytest.raises(Refusal, match="201088"):
        grammar.compile(engine_pb2.Grammar(harmony=True), 1000)


def test_equal_messages_are_compiled_once() -> None:
    def message(age: int) -> engine_pb2.Grammar:
        return engine_pb2.Grammar(json_schema=json.dumps({"type": "integer", "maximum": age}))

    assert grammar.compile(message(5), SIZE) is grammar.compile(message(5), SIZE)
    assert grammar.compile(message(5), SIZE) is not grammar.compile(message(6), SIZE)


def test_the_last_grammars_are_kept_and_few_contents(monkeypatch: pytest.MonkeyPatch) -> None:
    def message(*numbers: int) -> engine_pb2.Grammar:
        functions = [function(f"functions.f{number}", json.dumps({"const": [number]})) for number in numbers]
        return engine_pb2.Grammar(harmony=True, functions=functions)

    monkeypatch.setattr(compiler, "KEPT_CONTENTS", 4)
    begin = compiler._recent()
    kept = [grammar.compile(message(number), SIZE) for number in range(4)]
    assert all(grammar.compile(message(number), SIZE) is kept[number] for number in range(4))
    content = weakref.ref(kept[0].contents[0])
    del kept[0]
    large = grammar.compile(message(*range(4, 10)), SIZE)
    gc.collect()
    assert content() is None
    assert sum(len(each.contents) for each in begin._grammars.values()) == 6
    assert grammar.compile(message(*range(4, 10)), SIZE) is large  # it is the last one, whatever it takes
    grammar.compile(message(4), SIZE)
    assert [len(each.contents) for each in begin._grammars.values()] == [1]
    monkeypatch.setattr(compiler, "KEPT_GRAMMARS", 3)
    for number in range(9):
        grammar.compile(engine_pb2.Grammar(harmony=True, reasoning_tokens=number), SIZE)
    assert len(begin._grammars) == 3


def test_grammars_share_contents_that_are_in_use() -> None:
    parameters = json.dumps({"const": "shared"})
    both = [engine_pb2.Grammar(harmony=True, functions=[function(f"functions.{name}", parameters)]) for name in "ab"]
    first, second = (grammar.compile(message, SIZE) for message in both)
    assert first.contents == second.contents


def test_states_of_one_grammar_know_nothing_of_each_other() -> None:
    message = engine_pb2.Grammar(json_schema='{"enum": ["left", "right"]}')
    first, second = start(message), start(message)
    before = ids(second.mask())
    for token in encode('"left"'):
        first.accept(token)
    assert ids(second.mask()) == before
    second.accept(encode('"right"')[0])
    assert ids(first.mask()) != ids(second.mask())


def test_threads_may_compile_and_draw_at_once() -> None:
    def work(number: int) -> list[int]:
        import random

        value = {"type": "array", "items": {"enum": [number % 3, "x"]}, "maxItems": 5}
        return walk(start(engine_pb2.Grammar(json_schema=json.dumps(value))), random.Random(number))

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, range(12)))
    assert together == [work(number) for number in range(12)]


def test_a_grammar_that_asks_for_nothing_allows_all_text() -> None:
    state = start(engine_pb2.Grammar())
    for token in encode("Anything at all."):
        state.accept(token)
    assert len(ids(state.mask())) > 199_000
