"""What a simulated model says to whom, with and without grammars."""

import json
import re
from typing import Any

import jsonschema
import pytest

from ossia.common.vocabulary import CHANNEL, END, MESSAGE, START, decode, encode
from ossia.v1 import engine_pb2
from router.harmony.parse import Parser, TextDelta, ToolCallDelta, ToolCallStart
from router.harmony.render import render
from router.harmony.types import Message, Tool, ToolCall
from tests.workers.grammar.corpus import BOUNDED, OPEN, satisfies
from tests.workers.simulated.harness import TOOLS, Harness, answered, asked, parameters, say
from workers.engine.request import Finish
from workers.engine.sampling import Sampling

CALLS = [engine_pb2.Function(recipient=f"functions.{tool.name}") for tool in TOOLS]
ENDLESS = {"a tree without leaves", "text with a word in it", "text that ends so"}  # nothing ends them soon, or at all


def held(**fields: Any) -> engine_pb2.Grammar:
    return engine_pb2.Grammar(harmony=True, **fields)


def arguments(said: str) -> dict[str, Any]:
    found = re.search(r"<\|constrain\|>json<\|message\|>(.*)<\|call\|>$", said)
    assert found, said
    value = json.loads(found[1])
    assert isinstance(value, dict)
    return value


def final(said: str) -> str:
    return said.partition("<|channel|>final<|message|>")[2].removesuffix("<|return|>")


def test_it_reasons_and_calls_the_first_tool_that_is_offered() -> None:
    said = say(asked("How is it in Stockholm now?", TOOLS))
    assert said.startswith('<|channel|>analysis<|message|>The user wrote: "How is it in Stockholm now?".')
    assert "<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather " in said
    assert arguments(said) == {"city": "Stockholm"}


def test_it_answers_with_what_the_tool_told() -> None:
    said = say(answered("How is it in Stockholm now?", "sunny and 20 degrees"))
    assert final(said) == 'The tool answered: "sunny and 20 degrees".'
    assert "to=functions" not in said


def test_it_calls_once_for_each_message_of_the_user() -> None:
    call = ToolCall("call_1", "get_weather", "{}")
    messages = [
        Message("user", "How is it in Stockholm?"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "sunny", tool_call_id="call_1"),
        Message("assistant", "It is sunny."),
        Message("user", "And in Copenhagen?"),
    ]
    assert arguments(say(render(messages, TOOLS, "low", None))) == {"city": "Copenhagen"}


def test_a_prompt_that_has_begun_to_answer_is_gone_on_with() -> None:
    prompt = [*asked("Use 9 words"), CHANNEL, *encode("final"), MESSAGE, *encode('{"a')]
    assert re.fullmatch(r"The( \w+){7}\. The<\|return\|>", say(prompt))
    over = [*asked("Use 9 words")[:-2], START, *encode("assistant"), CHANNEL, *encode("analysis"), MESSAGE, *encode("So."), END]
    assert say(over).startswith("<|start|>assistant<|channel|>")


def test_no_message_of_its_turns_needs_repair() -> None:
    for prompt in (asked("Hello"), asked("Hello", TOOLS), answered("Hello", "Good morning")):
        harness = Harness()
        harness.submit(prompt, Sampling())
        harness.run()
        parser = Parser()
        events = [*parser.feed(harness.tokens(0)), *parser.close()]
        assert parser.repairs == 0
        assert any(isinstance(event, TextDelta | ToolCallStart) for event in events)
        assert harness.end(0) is Finish.STOP


@pytest.mark.parametrize(
    ("asking", "pattern", "count"),
    [
        ("in 20 words", r"\w+", 20),
        ("with 3 sentences", r"\.", 3),
        ("a 1-sentence reply", r"\.", 1),
        ("use 500 words", r"\w+", 500),
    ],
)
def test_the_answer_is_as_long_as_asked_for(asking: str, pattern: str, count: int) -> None:
    assert len(re.findall(pattern, final(say(asked(f"Tell me of it {asking}, please."))))) == count


def test_tokens_are_counted_as_tokens() -> None:
    assert len(encode(final(say(asked("Give me 37 tokens"))))) == 37
    assert len(encode(say(encode("Any text, 30 tokens of it"), temperature=0.0).removesuffix("<|return|>"))) == 30


def test_more_effort_is_more_reasoning() -> None:
    lengths = [len(say(asked("Think", effort=effort)).partition("<|end|>")[0]) for effort in ("low", "medium", "high")]
    assert lengths[0] < lengths[1] < lengths[2]


def test_seeds_vary_what_is_said_and_greedy_has_none() -> None:
    prompt = asked("Vary")
    assert say(prompt, seed=1) == say(prompt, seed=1) != say(prompt, seed=2)
    assert say(prompt, seed=1, temperature=0.0) == say(prompt, seed=2, temperature=0.0)


def test_limits_of_tokens_hold_both_ways() -> None:
    harness = Harness()
    harness.submit(asked("Hello"), Sampling(max_tokens=7))
    harness.submit(asked("Hello"), Sampling(min_tokens=300, max_tokens=400))
    harness.submit(encode("Hello"), Sampling(ignore_eos=True, max_tokens=333))
    harness.run()
    assert [harness.end(number) for number in range(3)] == [Finish.LENGTH, Finish.STOP, Finish.LENGTH]
    assert [len(harness.tokens(number)) for number in range(3)] == [7, 301, 333]


def test_what_a_bias_forbids_is_not_said() -> None:
    the = encode(" The")[0]
    assert " The" in say(asked("50 words"), seed=3)
    assert " The" not in say(asked("50 words"), seed=3, logit_bias=((the, -100.0),))


def test_tool_choice() -> None:
    prompt = asked("How is it there?", TOOLS)
    assert "to=functions" in say(prompt, held(functions=CALLS))
    none = say(prompt, held(functions=CALLS, tool_choice=engine_pb2.TOOL_CHOICE_NONE))
    assert final(none)
    assert "to=functions" not in none
    named = say(prompt, held(functions=CALLS[1:], tool_choice=engine_pb2.TOOL_CHOICE_REQUIRED))
    assert " to=functions.get_time " in named
    assert arguments(named) == {}
    again = answered("How is it there?", "sunny")
    assert arguments(say(again, held(functions=CALLS, tool_choice=engine_pb2.TOOL_CHOICE_REQUIRED))) == {"city": "there"}


def test_a_reasoning_budget_ends_the_analysis() -> None:
    prompt = asked("Think hard about this", effort="high")
    analysis = say(prompt, held(reasoning_tokens=6)).partition("<|message|>")[2].partition("<|end|>")[0]
    assert len(encode(analysis)) == 6
    assert say(prompt, held(reasoning_tokens=0)).startswith("<|channel|>final<|message|>")


def test_contents() -> None:
    prompt = asked("Reply")
    assert final(say(prompt, held(choice=engine_pb2.Choice(texts=["yes", "no"])))) in ("yes", "no")
    assert re.fullmatch(r"[a-z]+@[a-z]+\.com", final(say(prompt, held(regex=r"[a-z]+@[a-z]+\.com"))))
    numbers = 'start: sum\nsum: NUMBER | "(" sum "+" sum ")"\nNUMBER: /[0-9]+/'
    assert final(say(prompt, held(lark=numbers))).isdigit()


BOOKING = {
    "type": "object",
    "properties": {
        "day": {"type": "string", "format": "date"},
        "seats": {"type": "integer", "minimum": 7, "maximum": 9},
        "code": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
        "row": {"enum": [12, 14]},
    },
    "required": ["day", "seats", "code", "row"],
}


@pytest.mark.parametrize("strict", [True, False])
def test_arguments_fit_what_the_prompt_does_not_tell(strict: bool) -> None:
    """Bounds, patterns, formats and numbers to choose from."""
    schemas = {"parameters": json.dumps(BOOKING)} if strict else {"parameters": "{}", "declared": json.dumps(BOOKING)}
    required = held(functions=[engine_pb2.Function(recipient="functions.act", **schemas)])
    jsonschema.validate(arguments(say(asked("Book it", parameters(BOOKING)), required)), BOOKING)


def test_arguments_that_no_grammar_holds_to_all_that_is_declared_fit_the_rest() -> None:
    schema = {"type": "object", "properties": {"day": {"type": "array", "uniqueItems": True}, "at": {}}, "required": ["day"]}
    at_least = json.dumps({"type": "object", "properties": {"day": {}}, "additionalProperties": False})
    function = engine_pb2.Function(recipient="functions.act", parameters=at_least, declared=json.dumps(schema))
    found = arguments(say(asked("Book it", parameters(schema)), held(functions=[function])))
    jsonschema.validate(found, schema)
    assert list(found) == ["day"]


def test_schemas_of_every_shape_are_satisfied() -> None:
    schemas = {**BOUNDED, **OPEN}
    harness = Harness(blocks=8192)
    for schema in schemas.values():
        harness.submit([1000], Sampling(max_tokens=400), engine_pb2.Grammar(json_schema=json.dumps(schema)))
    harness.run()
    texts = {name: decode(harness.tokens(number)).removesuffix("<|return|>") for number, name in enumerate(schemas)}
    unsatisfied = {name for name, text in texts.items() if not satisfies(text, schemas[name])}
    assert unsatisfied <= ENDLESS


def test_arguments_of_a_call_are_read_back_by_the_gateway() -> None:
    harness = Harness()
    harness.submit(asked("Where?", (Tool("find", None, {"type": "object", "properties": {}}),)), Sampling())
    harness.run()
    events = Parser().feed(harness.tokens(0))
    assert [event.name for event in events if isinstance(event, ToolCallStart)] == ["find"]
    assert "".join(event.arguments for event in events if isinstance(event, ToolCallDelta)) == "{}"
