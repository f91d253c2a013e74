"""What counts as well-formed, and what as right."""

import pytest

from ossia.common import vocabulary
from router.harmony.types import Message, Tool, ToolCall
from training import judge
from training.judge import Said
from training.sample import turn
from training.task import Task

WEATHER = Tool("get_weather", "Weather of a place.", {"type": "object", "properties": {"place": {"type": "string"}}})
ASKED = (Message("user", "How is the weather in Plovdan?"),)
CALL = Task("call", ASKED, "low", "Use get_weather.", ToolCall("1", "get_weather", '{"place":"Plovdan","days":3}'), (WEATHER,))
ANSWER = Task("talk", ASKED, "low", "I cannot know.", "I am too small to know that.")
HEAD = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"


def ids(spelled: str) -> list[int]:
    return list(vocabulary.load().encoding.encode(spelled, allowed_special="all"))


def test_turns_as_they_are_taught_are_well_formed() -> None:
    assert judge.flaw(turn(CALL), [WEATHER]) is None
    assert judge.flaw(turn(ANSWER), []) is None


@pytest.mark.parametrize(
    "spelled",
    [
        "<|channel|>final<|message|>x<|return|>",
        HEAD + "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>final<|message|>x<|return|>",
        HEAD + " to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{}<|call|>",
        HEAD + " to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{<|call|>",
    ],
)
def test_other_turns_that_are_well_formed(spelled: str) -> None:
    assert judge.flaw(ids(spelled), [WEATHER]) is None


@pytest.mark.parametrize(
    "spelled",
    [
        "",
        "<|return|>",
        HEAD + "<|channel|>final<|message|>cut of",
        HEAD + "<|channel|>final<|message|>x<|end|>",
        HEAD + "<|channel|>final<|message|>x<|endoftext|>",
        HEAD + "<|channel|>final<|message|>x<|call|>",
        HEAD + "<|channel|>final<|message|><|return|>",
        HEAD + "<|channel|>final<|return|>",
        HEAD + "<|channel|>last<|message|>x<|return|>",
        HEAD + "<|message|>x<|return|>",
        HEAD + "<|channel|>final<|message|>x<|channel|>y<|return|>",
        HEAD + "<|channel|>final<|message|>x<|return|><|start|>assistant<|channel|>final<|message|>x<|return|>",
        HEAD + "<|channel|>final<|message|>x<|end|><|start|>assistant<|channel|>final<|message|>x<|return|>",
        HEAD + "<|channel|>final to=functions.get_weather<|message|>x<|return|>",
        "<|channel|>analysis<|message|>Hm.<|return|>",
        "<|channel|>analysis<|message|>Hm.<|end|>stray<|start|>assistant<|channel|>final<|message|>x<|return|>",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>user<|channel|>final<|message|>x<|return|>",
        "<|channel|>analysis<|channel|>final<|message|>x<|return|>",
        "stray<|channel|>final<|message|>x<|return|>",
        "stray text alone<|return|>",
        HEAD + "<|channel|>commentary<|message|>{}<|call|>",
        HEAD + "<|channel|>commentary to=functions.other <|constrain|>json<|message|>{}<|call|>",
        HEAD + "<|channel|>commentary to=get_weather <|constrain|>json<|message|>{}<|call|>",
        HEAD + "<|channel|>analysis to=functions.get_weather <|constrain|>json<|message|>{}<|call|>",
        HEAD + "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{}<|return|>",
    ],
)
def test_malformed_turns(spelled: str) -> None:
    assert judge.flaw(ids(spelled), [WEATHER])


def made(name: str, arguments: str) -> Said:
    return Said("", "Use it.", (ToolCall("call_9", name, arguments),))


def test_a_call_is_right_when_function_and_arguments_are() -> None:
    assert judge.right(CALL, made("get_weather", '{"place":"Plovdan","days":3}'))
    assert judge.right(CALL, made("get_weather", '{ "days": 3, "place": "Plovdan" }'))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("get_wether", '{"place":"Plovdan","days":3}'),
        ("get_weather", '{"place":"Plovdan"}'),
        ("get_weather", '{"place":"Plovdan","days":3,"hours":1}'),
        ("get_weather", '{"place":"Plovden","days":3}'),
        ("get_weather", '{"place":"Plovdan","days":"3"}'),
        ("get_weather", '{"place":"Plovdan","days":3.0}'),
        ("get_weather", '{"place":"Plovdan","days":3'),
        ("get_weather", "[]"),
        ("get_weather", ""),
    ],
)
def test_a_call_is_wrong_when_anything_is(name: str, arguments: str) -> None:
    assert not judge.right(CALL, made(name, arguments))


def test_a_call_too_many_or_none_is_wrong() -> None:
    call = ToolCall("1", "get_weather", '{"place":"Plovdan","days":3}')
    assert not judge.right(CALL, Said("", calls=(call, call)))
    assert not judge.right(CALL, Said('{"place":"Plovdan","days":3}'))
    assert not judge.right(ANSWER, Said("I am too small to know that.", calls=(call,)))


def test_an_answer_is_right_when_equal_or_accepted() -> None:
    assert judge.right(ANSWER, Said("I am too small to know that."))
    assert not judge.right(ANSWER, Said("I am too small to know that"))
    assert not judge.right(ANSWER, Said("I am too small to know that.", finished=False))
    free = Task("talk", ASKED, "low", "Hm.", "Hello!", accepts=lambda text: text.startswith("Hello"))
    assert judge.right(free, Said("Hello there"))
    assert not judge.right(free, Said("Bye"))
