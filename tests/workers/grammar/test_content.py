"""What bodies are held to, as whole outputs: nothing that is drawn from the masks breaks the schema, expression or grammar."""

import json
import random
import re
import threading
import time

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLParserLimits

from ossia.common.vocabulary import FIRST_SPECIAL, RETURN, SIZE, encode
from ossia.v1 import engine_pb2
from tests.router.harmony.streams import RELAXED
from tests.workers.grammar.walks import follow, ids, refuses, start, text, walk
from workers import grammar
from workers.engine.errors import Cause, Refusal
from workers.engine.grammar import allows
from workers.grammar import content

SEEDS = st.integers(0, 2**32)

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
    "required": ["name"],
    "additionalProperties": False,
}
BOUNDED: list[object] = [
    PERSON,
    {"type": "array", "items": PERSON, "minItems": 1, "maxItems": 3},
    {"enum": ["red", "green", 7, None, {"deep": ["<|end|>", '\n"\\']}]},
    {"const": {"a": [1, 2.5, "x" * 300]}},
    {"type": "string", "pattern": "^[A-Z]{2}-\\d{1,4}$"},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "uuid"},
    {"type": "number", "minimum": -1.5, "maximum": 1.5, "multipleOf": 0.25},
    {"type": ["boolean", "null"]},
    {"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 10, "maximum": 99}]},
    {"oneOf": [{"const": 1}, {"const": "one"}]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 12}]},
    {"type": "array", "prefixItems": [{"const": 1}, {"type": "boolean"}], "items": False, "minItems": 2},
    {
        "type": "object",
        "properties": {"left": {"$ref": "#/$defs/leaf"}, "right": {"$ref": "#/$defs/leaf"}},
        "required": ["left", "right"],
        "additionalProperties": False,
        "$defs": {"leaf": {"type": "object", "properties": {"v": {"enum": [1, 2]}}, "additionalProperties": False}},
    },
    {"type": "string", "minLength": 2, "maxLength": 4},
]
UNBOUNDED: list[object] = [
    {"type": "object"},
    {},
    {"type": "array"},
    {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}, "title": {"type": "string"}}},
]


def schema(value: object) -> engine_pb2.Grammar:
    return engine_pb2.Grammar(json_schema=json.dumps(value))


def refusal(message: engine_pb2.Grammar) -> Refusal:
    with pytest.raises(Refusal) as caught:
        grammar.compile(message, SIZE)
    assert caught.value.cause is Cause.INVALID
    return caught.value


@RELAXED
@given(st.sampled_from(BOUNDED), SEEDS)
def test_all_that_is_drawn_satisfies_the_schema(value: object, seed: int) -> None:
    *tokens, last = walk(start(schema(value)), random.Random(seed))
    assert last == RETURN
    jsonschema.validate(json.loads(text(tokens)), value)  # type: ignore[arg-type]


names = st.sampled_from(["id", "user_name", "maxResults", "$type", "two words", "größe", 'quo"te', ""])
leaves = st.one_of(
    st.fixed_dictionaries({"type": st.just("string"), "maxLength": st.integers(0, 6)}),
    st.integers(-1000, 1000).map(lambda least: {"type": "integer", "minimum": least, "maximum": least + 120}),
    st.lists(st.text(max_size=5) | st.integers(-(2**53), 2**53) | st.none() | st.booleans(), min_size=1, max_size=4).map(
        lambda values: {"enum": values}
    ),
    st.sampled_from(
        [{"type": "boolean"}, {"type": "null"}, {"type": ["null", "boolean"]}, {"type": "string", "pattern": "^[a-f]{2,3}$"}]
    ),
)


def arrays(items: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.fixed_dictionaries(
        {"type": st.just("array"), "items": items, "maxItems": st.integers(1, 3)}, optional={"minItems": st.integers(0, 1)}
    )


def objects(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    properties = st.dictionaries(names, values, max_size=3)
    return properties.flatmap(
        lambda each: st.lists(st.sampled_from([*each] or [""]), unique=True, max_size=len(each)).map(
            lambda required: {"type": "object", "properties": each, "required": required, "additionalProperties": False}
        )
    )


def unions(options: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(options, min_size=1, max_size=3).map(lambda each: {"anyOf": each})


schemas = st.recursive(leaves, lambda inner: arrays(inner) | objects(inner) | unions(inner), max_leaves=6)


@settings(RELAXED, max_examples=60)
@given(schemas, SEEDS)
def test_all_that_is_drawn_satisfies_any_schema(value: object, seed: int) -> None:
    """And the same value, cut as the model cuts it and spaced as it spaces it, is allowed."""
    message = schema(value)
    *tokens, last = walk(start(message), random.Random(seed))
    assert last == RETURN
    drawn = json.loads(text(tokens))
    jsonschema.validate(drawn, value)  # type: ignore[arg-type]
    for separators in ((",", ":"), (", ", ": ")):
        follow(start(message), [*encode(json.dumps(drawn, separators=separators, ensure_ascii=False)), RETURN])


@settings(RELAXED, max_examples=30)
@given(st.sampled_from(UNBOUNDED), SEEDS)
def test_schemas_without_bounds_allow_something_always(value: object, seed: int) -> None:
    state = start(schema(value))
    tokens = walk(state, random.Random(seed), limit=60, ending=0.3)
    assert ids(state.mask()) or tokens[-1] == RETURN


@pytest.mark.parametrize("value", [{"required": 5}, {"properties": [1]}, {"enum": 5}, {"enum": {}}, {"items": 5}, {"type": 5}])
def test_keywords_of_the_wrong_type_are_refused(value: object) -> None:
    assert refusal(schema(value)).reason == "UNSUPPORTED_GRAMMAR"


GREATEST = 2**53


@pytest.mark.parametrize("keyword", ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"])
@pytest.mark.parametrize("kind", ["integer", "number"])
@pytest.mark.parametrize("bound", [2**63, 2**63 - 1, 2**64, 10**40, 1e300])
def test_bounds_beyond_exact_numbers_are_brought_within_them(kind: str, keyword: str, bound: float) -> None:
    lowest = "inimum" in keyword
    state = start(schema({"type": kind, keyword: -bound if lowest else bound}))
    follow(state, [*encode("0"), RETURN])
    beyond = encode(str((-1 if lowest else 1) * (GREATEST + 10)))
    assert refuses(start(schema({"type": kind, keyword: -bound if lowest else bound})), [*beyond, RETURN])


def test_numbers_that_only_tell_of_the_schema_may_be_any() -> None:
    follow(start(schema({"type": "integer", "examples": [2**60], "default": -(2**63)})), [*encode("7"), RETURN])


@pytest.mark.parametrize("factor", [4097, 2**31, 2.5e8, 0.00001234, 12_345.678, 0, -5])
def test_factors_of_many_remainders_are_refused_at_once(factor: float) -> None:
    begin = time.process_time()
    assert refusal(schema({"type": "number", "multipleOf": factor})).reason == "UNSUPPORTED_GRAMMAR"
    apart = {"properties": {"a": {"multipleOf": 257}, "b": {"allOf": [{"multipleOf": 256}, {"multipleOf": 0.1}]}}}
    assert "remainders" in refusal(schema(apart)).message
    assert time.process_time() - begin < 0.5


@pytest.mark.parametrize(
    ("factor", "allowed"), [(5, "-35"), (4000, "180000"), (0.01, "17.29"), (0.125, "0.625"), (1e3, "7000")]
)
def test_multiples(factor: float, allowed: str) -> None:
    written = {"properties": {"number": {"type": "number", "multipleOf": factor}, "multipleOf": {"const": 2**40}}}
    follow(start(schema(written)), [*encode(f'{{"number":{allowed},"multipleOf":{2**40}}}'), RETURN])
    assert refuses(start(schema(written)), [*encode(f'{{"number":{allowed}1,'), RETURN])


@pytest.mark.parametrize("factor", [7, 100, 997, 4093])
@pytest.mark.parametrize("bounds", [{}, {"minimum": -12345, "maximum": GREATEST}, {"minimum": -1.5, "maximum": 1e9}])
@pytest.mark.parametrize("kind", ["integer", "number"])
def test_multiples_within_bounds_end_nowhere(kind: str, bounds: dict[str, float], factor: int) -> None:
    held = {"type": kind, "multipleOf": factor, **bounds}
    state = start(schema({"properties": {"a": held}, "required": ["a"], "additionalProperties": False}))
    tokens = walk(state, random.Random(factor), limit=40, ending=0.5)
    assert ids(state.mask()) or tokens[-1] == RETURN


def test_values_are_no_schemas() -> None:
    """What is in them keeps its value, whatever its name."""
    value = {"minimum": -5, "properties": {"const": 2}, "enum": [1]}
    for written in ({"const": value}, {"enum": [value]}):
        follow(start(schema(written)), [*encode(json.dumps(value)), RETURN])
    assert refusal(schema({"const": {"minimum": -(2**63)}})).reason == "UNSUPPORTED_GRAMMAR"
    assert (
        refusal(schema({"properties": {"const": {"properties": {"enum": {"const": -(2**63)}}}}})).reason
        == "UNSUPPORTED_GRAMMAR"
    )


@pytest.mark.parametrize("number", [0.1, 1e-7, -2.5, 123456.789, 2**53, 450359962737049.5, 1e-22, -0.000123])
def test_exact_values(number: float) -> None:
    *tokens, last = walk(start(schema({"enum": [number]})), random.Random(0))
    assert last == RETURN and json.loads(text(tokens)) == number


@pytest.mark.parametrize("number", [-962708917734.1923, 0.1 + 0.2, 5e-324, 1e-23, 1e16])
def test_values_that_the_library_would_change_are_refused(number: float) -> None:
    assert "exact" in refusal(schema({"enum": [True, {"a": [number]}]})).message


def test_characters_of_several_tokens_are_cut_as_the_vocabulary_cuts_them() -> None:
    for character in ("\U00011274", "🏔", "日", "\u2028"):
        for written in ({"enum": [character]}, {"const": {character: character}}):
            spelled = json.dumps(written.get("const", character), ensure_ascii=False)
            follow(start(schema(written)), [*encode(spelled), RETURN])


@pytest.mark.parametrize("value", ["", "{", "[]", "1", "false", '{"a": NaN}', '{"a":' * 20_000 + "1" + "}" * 20_000])
def test_what_is_no_schema_is_refused(value: str) -> None:
    error = refusal(engine_pb2.Grammar(json_schema=value))
    assert (error.field, error.reason) == ("grammar.json_schema", "INVALID_GRAMMAR")


def test_true_is_any_json() -> None:
    follow(start(engine_pb2.Grammar(json_schema="true")), [*encode('[1, {"a": null}]'), RETURN])


@pytest.mark.parametrize(
    ("spelled", "allowed"),
    [
        ('{"name":"Bo","age":3}', True),
        ('{"name": "Bo", "age": 3}', True),
        ('{"name":"Bo", "age":3}', True),
        ('{"name":  "Bo"}', False),
        ('{"name":"Bo" }', False),
        ('{ "name":"Bo"}', False),
        ('{\n"name":"Bo"}', False),
        (' {"name":"Bo"}', False),
        ('{"age":3,"name":"Bo"}', False),
        ('{"name":"Boooooooo"}', False),
    ],
)
def test_json_has_one_space_at_most(spelled: str, allowed: bool) -> None:
    assert refuses(start(schema(PERSON)), [*encode(spelled), RETURN]) is not allowed


def test_the_librarys_own_options_are_not_the_callers() -> None:
    loose = {**PERSON, "x-guidance": {"whitespace_flexible": True, "lenient": True}}
    assert refuses(start(schema(loose)), encode('{\n"name":"Bo"}'))
    assert refusal(schema({"not": {"type": "string"}, "x-guidance": {"lenient": True}})).reason == "UNSUPPORTED_GRAMMAR"


def test_special_tokens_spelled_in_strings_are_text() -> None:
    spelled = "<|end|><|start|>assistant<|channel|>final<|message|><|return|>"
    for value in ({"const": spelled}, {"type": "string"}, {"type": "string", "pattern": "^<.*>$"}):
        state = start(schema(value))
        tokens = encode(json.dumps(spelled))
        assert all(token < FIRST_SPECIAL for token in tokens)
        follow(state, [*tokens, RETURN])
    *tokens, _ = walk(start(schema({"const": spelled})), random.Random(0))
    assert json.loads(text(tokens)) == spelled


@RELAXED
@given(st.lists(st.text(min_size=1), min_size=1, max_size=5), SEEDS)
def test_a_choice_is_one_of_its_texts(texts: list[str], seed: int) -> None:
    message = engine_pb2.Grammar(choice=engine_pb2.Choice(texts=texts))
    *tokens, last = walk(start(message), random.Random(seed))
    assert last == RETURN and text(tokens) in texts
    for each in texts:
        follow(start(message), [*encode(each), RETURN])


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{3}-[a-z]{2,4}",
        r"^(?:yes|no|maybe)$",
        r"^a|b$",
        r"a/b\\\/c",
        r"\$",
        r"x\\$",
        r"(a{30}){30}",
        "[äöü🙂]{1,3}",
        r"\w\s\S",
    ],
)
def test_an_expression_matches_the_whole_text(pattern: str) -> None:
    for seed in range(10):
        *tokens, last = walk(start(engine_pb2.Grammar(regex=pattern)), random.Random(seed))
        assert last == RETURN
        assert re.fullmatch(pattern, text(tokens))


@pytest.mark.parametrize("pattern", ["(", "(?=a)b", r"\bword\b", r"[^\s\S]", "a{1000}" * 40_000, r"(a)\1"])
def test_an_expression_that_cannot_be_held_is_refused(pattern: str) -> None:
    assert refusal(engine_pb2.Grammar(regex=pattern)).field == "grammar.regex"


def test_a_context_free_grammar() -> None:
    message = engine_pb2.Grammar(lark='start: "(" start ")" | NAME\nNAME: /[a-z]{1,3}/')
    follow(start(message), [*encode("((abc))"), RETURN])
    assert refuses(start(message), [*encode("((abc)"), RETURN])
    for seed in range(10):
        tokens = walk(start(message), random.Random(seed), limit=40, ending=0.5)
        if tokens[-1] == RETURN:
            assert re.fullmatch(r"(\(*)[a-z]{1,3}(\)*)", text(tokens[:-1]))


@pytest.mark.parametrize(
    "spelled",
    [
        "",
        "start: missing",
        'start: "a',
        "start: <|return|>",
        'start: "a" <[200005]>',
        "start: <[0-5]>",
        'start: @json_schema "a"',
        '{"grammars": [{"lark_grammar": "start: <|channel|>"}]}',
        'start: %json {"type": "integer", "minimum": -9223372036854775808}',
        'start: A\nA: /a\n"/ %json {"type": "integer"} //"',
        'start: A <|return|> B\nA: /a\n"/\nB: /b"/',
    ],
)
def test_a_context_free_grammar_that_cannot_be_held_is_refused(spelled: str) -> None:
    assert refusal(engine_pb2.Grammar(lark=spelled)).field == "grammar.lark"


@pytest.mark.parametrize(
    "spelled", ['start: "100%json"', "start: /[0-9]{1,3}%json/", 'start: "100%json"  // %json', 'start: "100%json" # %json']
)
def test_the_name_of_a_directive_in_a_string_is_text(spelled: str) -> None:
    follow(start(engine_pb2.Grammar(lark=spelled)), [*encode("100%json"), RETURN])


def test_markup_in_a_context_free_grammar_is_no_special_token() -> None:
    message = engine_pb2.Grammar(lark='start: "<b>" /[a-z]{1,4}/ "</b>"  // <|end|>\n# <|end|>')
    follow(start(message), [*encode("<b>x</b>"), RETURN])


@pytest.mark.parametrize(
    "message",
    [
        schema({"const": "a" * 100_000}),
        schema({"enum": ["a" * 50_000, "b" * 50_000]}),
        schema({"type": "string", "pattern": "^a{100000}$"}),
        schema({"type": "array", "items": {"$ref": "#"}, "minItems": 1}),
        engine_pb2.Grammar(regex="(a{300}){300}"),
        engine_pb2.Grammar(choice=engine_pb2.Choice(texts=["a" * 200_000])),
    ],
    ids=["const", "enum", "pattern", "nesting", "regex", "choice"],
)
def test_long_texts_without_a_choice_hold_up_nobody(message: engine_pb2.Grammar) -> None:
    try:
        state = start(message)
    except Refusal:
        return
    begin = time.thread_time()
    walk(state, random.Random(0), limit=20)
    assert time.thread_time() - begin < 2


@pytest.mark.parametrize(
    "message",
    [
        engine_pb2.Grammar(json_schema=" " * (1 << 18) + "{}"),
        engine_pb2.Grammar(regex="a" * ((1 << 18) + 1)),
        engine_pb2.Grammar(choice=engine_pb2.Choice(texts=["a" * (1 << 17)] * 3)),
        engine_pb2.Grammar(lark='start: "a" //' + "a" * (1 << 18)),
    ],
)
def test_what_is_too_large_is_refused(message: engine_pb2.Grammar) -> None:
    assert refusal(message).reason == "GRAMMAR_TOO_LARGE"


STATES = """
start: "s" PLAIN | "x" MANY
PLAIN: /[ab]*c/
MANY: /(?s:.*)[ab](?s:.){14}z/
"""


def test_where_the_library_gives_up_nothing_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its limits are shared by all requests with the grammar, so that it is compiled anew for later ones."""
    monkeypatch.setattr(content, "_LIMITS", LLParserLimits(max_lexer_states=2000, verbose_errors=False))
    monkeypatch.setattr(content, "_RENEWALS", 0)
    message = engine_pb2.Grammar(lark=STATES)
    state = grammar.compile(message, SIZE).start()
    state.accept(encode("x")[0])
    walk(state, random.Random(0), limit=1000, ending=0)
    assert not ids(state.mask())
    state.accept(encode("a")[0])  # as drafts are, whose masks come later
    state.rollback(2)
    assert not ids(state.mask()) and not state.forced(3)
    later = grammar.compile(message, SIZE)
    follow(later.start(), [*encode("sabc"), RETURN])


def test_only_what_the_library_has_given_up_on_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_LIMITS", LLParserLimits(max_lexer_states=2000, verbose_errors=False))
    monkeypatch.setattr(content, "_RENEWALS", 0)
    messages = [engine_pb2.Grammar(lark=f"{STATES}\n// {number}") for number in range(2)]
    first, second = (grammar.compile(message, SIZE) for message in messages)
    before = [each.contents[0].source for each in (first, second)]
    state = first.start()
    state.accept(encode("x")[0])
    walk(state, random.Random(0), limit=1000, ending=0)
    assert grammar.compile(messages[0], SIZE) is first and grammar.compile(messages[1], SIZE) is second
    assert first.contents[0].source is not before[0] and second.contents[0].source is before[1]


def test_texts_go_on_where_another_has_used_up_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_LIMITS", LLParserLimits(max_lexer_states=2000, verbose_errors=False))
    compiled = grammar.compile(engine_pb2.Grammar(lark=f"{STATES}\n// others"), SIZE)
    greedy, modest = compiled.start(), compiled.start()
    follow(modest, encode("sabb"))
    greedy.accept(encode("x")[0])
    walk(greedy, random.Random(0), limit=1000, ending=0)
    follow(modest, [*encode("ac"), RETURN])


@pytest.mark.parametrize("count", [1, 8])
def test_a_text_gets_as_far_beside_others_as_alone(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They begin one after the other, so that all use up the limits where each of them is, and over and over."""
    monkeypatch.setattr(content, "_LIMITS", LLParserLimits(max_lexer_states=1500, verbose_errors=False))
    held = content.json_schema(f'{{"type": "string", "maxLength": {600 + count}}}', "")
    text = [*encode('"'), *encode(" word") * 100, *encode('"')]
    bodies = [content.Body(held) for _ in range(count)]
    for step in range(len(text) + 10 * count):
        for begun, body in enumerate(bodies):
            if 0 <= step - 10 * begun < len(text):
                mask = body.mask(RETURN)
                while body.stalled:
                    body.renew()
                    mask = body.mask(RETURN)
                assert allows(mask, text[step - 10 * begun]), f"text {begun} of {count} ends at {body.length} of {len(text)}"
                assert body.accept(text[step - 10 * begun])
    assert all(body.complete for body in bodies)


def test_a_token_that_a_mask_allows_is_accepted_where_others_use_up_the_limits_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The library refuses it then, without a word."""
    monkeypatch.setattr(content, "_LIMITS", LLParserLimits(max_lexer_states=2000, verbose_errors=False))
    for seed in range(3):
        held, source = content.lark(f"start: /(?s:.*)[ab](?s:.){{14}}z/ // {seed}", ""), random.Random(seed)
        bodies = [content.Body(held, renewals=1) for _ in range(3)]
        while not any(body.stalled for body in bodies):
            allowed = [ids(body.mask(RETURN))[:-1] for body in bodies]
            assert all(body.accept(source.choice(found)) for body, found in zip(bodies, allowed, strict=True) if found)
        lengths = [body.length for body in bodies]
        for body in bodies:
            body.renew()
        assert [body.length for body in bodies] == lengths and any(ids(body.mask(RETURN)) for body in bodies)


def test_a_token_that_begins_with_what_is_forced_is_accepted_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the library forces what comes and does not say that it is at its limits."""
    monkeypatch.setattr(content, "_LIMITS", LLParserLimits(max_lexer_states=60, verbose_errors=False))
    held, source = content.json_schema('{"type": "object", "title": "forced"}', ""), random.Random(0)
    body, other = content.Body(held), content.Body(held)
    assert all(map(body.accept, encode('{"a"')))
    (token,) = encode(":t")
    assert allows(body.mask(RETURN), token)
    while allowed := ids(other.mask(RETURN))[:-1]:
        assert other.accept(source.choice(allowed))
    assert body.accept(token) and body.accept(encode("rue")[0]) and body.stalled and not ids(body.mask(RETURN))
    body.rollback(body.length - 1)
    body.renew()
    assert not body.stalled and all(map(body.accept, encode("rue}"))) and body.complete


def test_drafts_that_use_up_the_limits_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_LIMITS", LLParserLimits(max_lexer_states=2000, verbose_errors=False))
    body = content.Body(content.lark(f"{STATES}\n// drafts", ""), renewals=0)
    for token in encode("xaq"):
        assert body.accept(token)
    before = ids(body.mask(RETURN))
    source = random.Random(0)
    while allowed := ids(body.mask(RETURN)):
        assert body.accept(source.choice(allowed))
    body.rollback(len(encode("xaq")))
    assert not body.stalled and not ids(body.mask(RETURN))
    body._renewals = 1
    assert body.stalled and not ids(body.mask(RETURN))
    body.renew()
    assert ids(body.mask(RETURN)) == before
    for token in encode("b" * 15 + "z"):
        assert body.accept(token)
    assert body.complete


def test_a_mask_that_was_given_holds_where_a_draft_uses_up_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where there is no patience left."""
    monkeypatch.setattr(content, "_LIMITS", LLParserLimits(max_lexer_states=2000, verbose_errors=False))
    monkeypatch.setattr(content, "_RENEWALS", 0)
    state = start(engine_pb2.Grammar(lark="start: /[a-z]*/ | /(?s:.*)[ab](?s:.){14}z/"))
    assert RETURN in ids(state.mask())
    drafts = walk(state, random.Random(0), limit=1000, ending=0)
    assert not ids(state.mask())
    state.rollback(len(drafts))
    state.accept(RETURN)


def test_threads_are_given_their_stack_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is the process's, so that threads which others start meanwhile would have it, too."""
    content.load()
    monkeypatch.setattr(threading, "stack_size", lambda *_: pytest.fail("the size is set again"))
    follow(start(engine_pb2.Grammar(regex="stack")), encode("stack"))


def test_what_fails_while_compiling_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("no memory for a grammar")

    monkeypatch.setattr(content, "LLMatcher", fail)
    with pytest.raises(MemoryError, match="no memory for a grammar"):
        grammar.compile(engine_pb2.Grammar(regex="failing"), SIZE)


def chain(link: object) -> str:
    """The longest chain of definitions, each linked to the next, that a schema may spell."""
    spelled = json.dumps(link, separators=(",", ":"))
    count = (1 << 18) // (len(spelled) + 16) - 10
    definitions = ",".join(f'"{n}":{spelled.replace("NEXT", f"#/$defs/{n + 1}")}' for n in range(count))
    return f'{{"$ref":"#/$defs/0","$defs":{{{definitions},"{count}":{{"type":"object"}}}}}}'


REFERENCE = {"$ref": "NEXT"}
RULES = (1 << 18) // 20


@pytest.mark.parametrize(
    "message",
    [
        engine_pb2.Grammar(json_schema=chain(REFERENCE)),
        engine_pb2.Grammar(json_schema=chain({"properties": {"a": REFERENCE}})),
        engine_pb2.Grammar(json_schema=chain({"items": REFERENCE})),
        engine_pb2.Grammar(json_schema=chain({"allOf": [REFERENCE, {}]})),
        engine_pb2.Grammar(json_schema=chain({"anyOf": [REFERENCE]})),
        engine_pb2.Grammar(lark="start: r0\n" + "".join(f'r{n}: "a" r{n + 1}\n' for n in range(RULES)) + f'r{RULES}: "b"'),
        engine_pb2.Grammar(lark="start: R0\n" + "".join(f'R{n}: "a" R{n + 1}\n' for n in range(RULES)) + f'R{RULES}: "b"'),
    ],
    ids=["$ref", "properties", "items", "allOf", "anyOf", "rules", "terminals"],
)
def test_the_longest_chains_do_not_end_the_process(message: engine_pb2.Grammar) -> None:
    try:
        walk(start(message), random.Random(0), limit=5)
    except Refusal as error:
        assert error.reason == "UNSUPPORTED_GRAMMAR", error.message
