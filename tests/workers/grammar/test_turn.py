"""A harmony turn is well-formed whatever is drawn from its masks, and what the model was shown can be drawn."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossia.common import vocabulary
from ossia.common.vocabulary import CALL, CHANNEL, END, FIRST_SPECIAL, MESSAGE, RETURN, SIZE, START, encode
from ossia.v1 import engine_pb2
from router.harmony.parse import Parser
from tests.router.harmony.streams import RELAXED, tokens
from tests.workers.grammar.walks import allows, follow, ids, parse, refuses, start, text, walk

AUTO, NONE, REQUIRED = engine_pb2.TOOL_CHOICE_AUTO, engine_pb2.TOOL_CHOICE_NONE, engine_pb2.TOOL_CHOICE_REQUIRED
CITY = json.dumps(
    {
        "type": "object",
        "properties": {"city": {"enum": ["Trento", "Zürich 🏔"]}, "days": {"type": "integer", "minimum": 1, "maximum": 99}},
        "required": ["city", "days"],
        "additionalProperties": False,
    }
)
WEATHER = engine_pb2.Function(recipient="functions.get_weather", parameters=CITY)
FUNCTIONS = [
    WEATHER,
    engine_pb2.Function(recipient="functions.get_weather_map"),
    engine_pb2.Function(recipient="functions.get"),
    engine_pb2.Function(recipient="browser.search"),
    engine_pb2.Function(recipient="python"),
]
SEEDS = st.integers(0, 2**32)


@st.composite
def grammars(draw: st.DrawFn) -> engine_pb2.Grammar:
    message = engine_pb2.Grammar(harmony=True, functions=draw(st.lists(st.sampled_from(FUNCTIONS), unique_by=id)))
    message.tool_choice = draw(st.sampled_from([AUTO, NONE, REQUIRED] if message.functions else [AUTO, NONE]))
    if draw(st.booleans()):
        message.reasoning_tokens = draw(st.integers(0, 5))
    if draw(st.booleans()):
        message.json_schema = CITY
    return message


def harmony(**fields: object) -> engine_pb2.Grammar:
    return engine_pb2.Grammar(harmony=True, **fields)  # type: ignore[arg-type]


@RELAXED
@given(grammars(), SEEDS)
def test_every_turn_is_well_formed(message: engine_pb2.Grammar, seed: int) -> None:
    state = start(message)
    turn = walk(state, random.Random(seed), ending=0.4)
    assert turn[-1] in (RETURN, CALL)
    assert not ids(state.mask())
    *before, last = parse(turn)
    parser = Parser()
    parser.feed(turn)
    assert parser.repairs == 0
    assert {message.author.role for message in (*before, last)} == {"assistant"}
    assert all(message.recipient is None and message.channel in ("analysis", "commentary") for message in before)
    if turn[-1] == CALL:
        assert message.tool_choice != NONE
        assert last.recipient in {function.recipient for function in message.functions}
        if last.recipient == WEATHER.recipient:
            assert json.loads(last.content[0].text)["days"] in range(1, 100)
    else:
        assert message.tool_choice != REQUIRED
        assert (last.channel, last.recipient) == ("final", None)
        if message.json_schema:
            assert json.loads(last.content[0].text)["days"] in range(1, 100)


NATURAL = [
    "<|channel|>analysis<|message|>Thinking.<|end|><|start|>assistant<|channel|>final<|message|>4 🙂<|return|>",
    "<|channel|>final<|message|>{}<|return|>",
    "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|>"
    "<|start|>assistant<|channel|>final<|message|><|return|>",
    '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city":"Trento","days":1}<|call|>',
    '<|channel|>commentary to=functions.get_weather<|constrain|>json<|message|>{"city": "Trento", "days": 99}<|call|>',
    ' to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{"city":"Zürich 🏔","days":7}<|call|>',
    ' to=functions.get_weather_map<|channel|>commentary json<|message|>{"anything": [1,\n 2]}<|call|>',
    "<|channel|>commentary to=functions.get <|message|><|call|>",
    "<|channel|>commentary<|message|>**Plan**<|end|>"
    "<|start|>assistant to=functions.get<|channel|>commentary<|message|>{}<|call|>",
    '<|channel|>analysis to=browser.search code<|message|>{"query": "x"}<|call|>',
    "<|channel|>analysis to=python code<|message|>print(1)\n<|call|>",
    "<|channel|>commentary to=python <|message|>print(1)<|call|>",
]


@pytest.mark.parametrize("spelled", NATURAL)
def test_what_the_model_was_shown_is_allowed(spelled: str) -> None:
    follow(start(harmony(functions=FUNCTIONS)), tokens(spelled))


@pytest.mark.parametrize(
    "spelled",
    [
        "Hello",
        "<|message|>",
        "<|channel|>thoughts<|message|>",
        "<|channel|>final <|constrain|>json<|message|>",
        "<|channel|>final to=functions.get<|message|>",
        "<|channel|>analysis to=functions.get<|message|>",
        "<|channel|>commentary to=functions.get_weath<|message|>",
        "<|channel|>commentary to=functions.delete<|message|>",
        "<|channel|>commentary to=get<|message|>",
        " to=functions.get<|channel|>commentary to=functions.get<|message|>",
        " to=functions.get<|channel|>final<|message|>",
        "<|channel|>analysis<|channel|>final<|message|>",
        "<|channel|>analysis<|message|>a<|channel|>",
        "<|channel|>analysis<|message|>a<|start|>",
        "<|channel|>analysis<|message|>a<|return|>",
        "<|channel|>analysis<|message|>a<|call|>",
        "<|channel|>analysis<|message|>a<|end|><|channel|>",
        "<|channel|>analysis<|message|>a<|end|><|start|>user",
        "<|channel|>analysis<|message|>a<|end|><|start|>functions.get",
        "<|channel|>final<|message|>a<|end|>",
        "<|channel|>final<|message|>a<|return|><|start|>",
        "<|channel|>commentary to=functions.get<|message|>a<|end|>",
        "<|channel|>final<|message|><|endoftext|>",
    ],
)
def test_what_is_not_harmony_is_forbidden(spelled: str) -> None:
    assert refuses(start(harmony(functions=FUNCTIONS)), tokens(spelled))


def test_headers_are_cut_into_tokens_as_the_whole_is() -> None:
    for function in FUNCTIONS:
        for header in (f"assistant to={function.recipient}", f"commentary to={function.recipient} json"):
            head, _, rest = header.partition(" to=")
            assert encode(header) == encode(head) + encode(f" to={rest}")
    assert all(len(encode(name)) == 1 for name in ("assistant", "analysis", "final"))


def test_nothing_can_be_called_without_functions_or_with_tool_choice_none() -> None:
    for message in (harmony(), harmony(functions=FUNCTIONS, tool_choice=NONE)):
        assert refuses(start(message), encode(" to"))
        assert refuses(start(message), tokens("<|channel|>commentary"))


def test_a_required_call_follows_the_analysis() -> None:
    message = harmony(functions=[WEATHER], tool_choice=REQUIRED)
    for spelled in ("<|channel|>final", "<|channel|>commentary<|message|>", "<|channel|>analysis"):
        assert refuses(start(message), tokens(spelled)) or "analysis" in spelled
        assert refuses(start(message), tokens(f"<|channel|>analysis<|message|>a<|end|><|start|>assistant{spelled}"))
    state = start(message)
    follow(state, tokens("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary"))
    assert state.forced(20) == encode(" to=functions.get_weather")


def test_an_answer_held_to_a_schema_has_no_preamble() -> None:
    preamble = tokens("<|channel|>commentary<|message|>")
    assert not refuses(start(harmony(functions=FUNCTIONS)), preamble)
    assert refuses(start(harmony(functions=FUNCTIONS, json_schema=CITY)), preamble)


def test_analysis_ends_when_its_tokens_are_used_up() -> None:
    state = start(harmony(reasoning_tokens=3))
    follow(state, tokens("<|channel|>analysis<|message|>one two three"))
    assert ids(state.mask()) == [END]
    rest = tokens("<|end|><|start|>assistant<|channel|>final<|message|>")
    assert state.forced(20) == rest
    follow(state, [*rest, *encode("An answer of more than three tokens."), RETURN])


def test_tokens_of_analysis_are_those_of_all_its_messages() -> None:
    state = start(harmony(reasoning_tokens=3))
    follow(state, tokens("<|channel|>analysis<|message|>one two<|end|><|start|>assistant<|channel|>analysis<|message|> three"))
    assert ids(state.mask()) == [END]
    early = start(harmony(reasoning_tokens=3))
    follow(early, tokens("<|channel|>analysis<|message|>one two three<|end|><|start|>assistant<|channel|>"))
    assert ids(early.mask()) == encode("final")


def test_no_tokens_of_analysis_skip_it() -> None:
    state = start(harmony(reasoning_tokens=0))
    assert state.forced(20) == tokens("<|channel|>final<|message|>")


@given(st.integers(1, 3), SEEDS)
def test_analysis_never_ends_within_a_character(cut: int, seed: int) -> None:
    table = vocabulary.load().table
    single = {data: token for token, data in enumerate(table[:FIRST_SPECIAL]) if len(data) == 1}
    begun = [single[bytes([byte])] for byte in "🏔".encode()[:cut]]
    state = start(harmony(reasoning_tokens=len(begun)))
    follow(state, [CHANNEL, *encode("analysis"), MESSAGE, *begun])
    rest = walk(state, random.Random(seed), limit=4)
    rest = rest[: rest.index(END)]
    assert 1 <= len(rest) <= 4 - cut
    assert len(text([*begun, *rest])) == 1


@RELAXED
@given(grammars(), SEEDS)
def test_the_budget_of_analysis_is_kept(message: engine_pb2.Grammar, seed: int) -> None:
    message.reasoning_tokens = seed % 7
    turn = walk(start(message), random.Random(seed), ending=0.1)
    parser = Parser()
    parser.feed(turn)
    assert parser.reasoning_tokens <= message.reasoning_tokens + 3  # the rest of a character


@RELAXED
@given(grammars(), SEEDS)
def test_taking_back_equals_replaying(message: engine_pb2.Grammar, seed: int) -> None:
    source = random.Random(seed)
    state, output = start(message), []
    for _ in range(6):
        output += walk(state, source, limit=source.randint(1, 12), ending=0.2)
        count = source.randint(0, len(output))
        state.rollback(count)
        output = output[: len(output) - count]
        replayed = start(message)
        for token in output:
            replayed.accept(token)
        assert np.array_equal(state.mask(), replayed.mask())  # type: ignore[arg-type]
        assert state.forced(8) == replayed.forced(8)


@RELAXED
@given(grammars(), SEEDS)
def test_what_is_forced_is_all_that_is_allowed(message: engine_pb2.Grammar, seed: int) -> None:
    source = random.Random(seed)
    state = start(message)
    for _ in range(40):
        limit = source.randint(0, 6)
        forced, mask = state.forced(limit), state.mask()
        assert len(forced) <= limit
        for token in forced:
            assert ids(state.mask()) == [token]
            state.accept(token)
        state.rollback(len(forced))
        assert np.array_equal(state.mask(), mask)  # type: ignore[arg-type]
        if not walk(state, source, limit=1, ending=0.2):
            break


@settings(RELAXED, max_examples=30)
@given(grammars(), SEEDS)
def test_only_ids_of_the_vocabulary_are_allowed(message: engine_pb2.Grammar, seed: int) -> None:
    source, state = random.Random(seed), start(message)
    while len(allowed := ids(state.mask())):
        mask = state.mask()
        if isinstance(mask, np.ndarray):
            assert mask.dtype == np.uint32 and len(mask) == -(-SIZE // 32) and not mask.flags.writeable
        assert allowed[-1] < SIZE
        assert {token for token in allowed if token >= FIRST_SPECIAL} <= {CHANNEL, CALL, END, MESSAGE, RETURN, START, 200003}
        if not walk(state, source, limit=1, ending=0.5):
            break


def test_free_bodies_need_no_mask() -> None:
    for header, end in (("final", RETURN), ("analysis", END), ("commentary to=functions.get ", CALL)):
        state = start(harmony(functions=FUNCTIONS))
        follow(state, tokens(f"<|channel|>{header}<|message|>some"))
        assert state.mask() == (FIRST_SPECIAL, end)
        assert ids(state.mask()) == [*range(FIRST_SPECIAL), end]


def test_a_forbidden_token_is_not_accepted() -> None:
    for before, token in ((" to", START), ("<|channel|>final<|message|>", START), ("<|channel|>", encode("hello")[0])):
        state = start(harmony(functions=FUNCTIONS))
        follow(state, tokens(before))
        with pytest.raises(ValueError, match="cannot come"):
            state.accept(token)
    held = start(harmony(json_schema=CITY))
    follow(held, tokens('<|channel|>final<|message|>{"'))
    with pytest.raises(ValueError, match="cannot come"):
        held.accept(RETURN)


def test_nothing_comes_behind_the_end() -> None:
    for spelled in ("<|channel|>final<|message|>a<|return|>", "<|channel|>commentary to=python<|message|>a<|call|>"):
        state = start(harmony(functions=FUNCTIONS))
        follow(state, tokens(spelled))
        assert not ids(state.mask())
        assert state.forced(5) == []
        state.rollback(1)
        assert allows(state.mask(), tokens(spelled)[-1])
