"""Arguments fit the schemas of functions as prompts print them."""

import json
import time
from typing import Any

import jsonschema
import pytest

from ossia.common.vocabulary import decode
from router.harmony.types import Tool
from tests.workers.simulated.harness import asked
from workers.simulated.types import LEVELS, functions

STRING, NUMBER = {"type": "string"}, {"type": "number"}
INNER = {"type": "object", "properties": {"b": STRING}, "required": ["b"]}
PROPERTIES: dict[str, Any] = {
    "string": STRING,
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean", "default": False},
    "null": {"type": "null"},
    "described": {"type": "string", "description": "One line\nand another: with a colon,\nand a third"},
    "enum": {"enum": ["celsius", "fahrenheit"], "default": "celsius"},
    "quoted": {"enum": ["it's", "so"]},
    "const": {"const": "this"},
    "several types": {"type": ["number", "null"]},
    "list": {"type": "array", "items": STRING},
    "list of lists": {"type": "array", "items": {"type": "array", "items": NUMBER}},
    "list of choices": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1},
    "object": {"type": "object", "properties": {"x": NUMBER, "y": STRING}, "required": ["x"]},
    "deep": {"type": "object", "properties": {"a": INNER}, "required": ["a"]},
    "objects": {"type": "array", "items": {"type": "object", "properties": {"x": NUMBER}, "required": ["x"]}},
    "any of": {"anyOf": [NUMBER, {"type": "object", "properties": {"k": STRING}}], "description": "Either"},
    "one of": {"oneOf": [{"type": "string", "description": "A name"}, {"type": "integer", "description": "A number"}]},
    "reference": {"$ref": "#/$defs/point"},
}
DEFINITIONS = {"point": {"type": "object", "properties": {"x": NUMBER, "y": NUMBER}, "required": ["x", "y"]}}


def schema(*required: str) -> dict[str, Any]:
    return {"type": "object", "properties": PROPERTIES, "required": list(required), "$defs": DEFINITIONS}


def arguments(parameters: dict[str, Any] | None) -> Any:
    prompt = decode(asked("Do it", [Tool("act", "Acts:\nso.", parameters), Tool("other")]))
    found = functions(prompt)
    assert [function.name for function in found] == ["act", "other"]
    return json.loads(found[0].arguments("word"))


@pytest.mark.parametrize("name", PROPERTIES)
def test_each_kind_of_property(name: str) -> None:
    given = arguments(schema(name))
    jsonschema.validate(given, schema(name))
    assert list(given) == [name]


def test_all_together_and_none() -> None:
    jsonschema.validate(arguments(schema(*PROPERTIES)), schema(*PROPERTIES))
    assert arguments(schema()) == arguments(None) == {}


def test_what_is_no_declaration_declares_nothing() -> None:
    for text in ("", "type x = string;", "type f = (_: {", "type f = (_: {\n}"):
        assert functions(text) == ()


def test_what_cannot_be_read_is_an_empty_object() -> None:
    for text in ("{", "{\na: string", "{\na: {\n}", "what?", "string"):
        (function,) = functions(f"type f = (_: {text}) => any;")
        assert function.arguments("word") == "{}"


@pytest.mark.parametrize("count", [1, 13, 30, 1500])
@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("a: {\n", ""),
        ("a: {\n", "}\n"),
        ("a: {\n", "} x\n"),
        ("{ a: ", ""),
        ("a: {\n", "}, },\n"),
        ("", "[]"),
        ("a: {\n" * 20 + "} x\n", ""),
        ("a: {\n" * 20 + "} x\n" * 19, " "),
        ("\n", ""),
        ("a:\n", "a: string\n"),
        ('"a" | ', ""),
    ],
)
def test_whatever_a_prompt_declares_is_read_in_time(opening: str, closing: str, count: int) -> None:
    begun = time.process_time()
    for name in ("", "a: string"):
        text = "{\n" + opening * count + name + closing * count
        for function in functions(f"type f = (_: {text}) => any;"):
            assert isinstance(json.loads(function.arguments("word")), dict)
    assert time.process_time() - begun < 2


def test_declarations_without_end_are_looked_through_once() -> None:
    begun = time.process_time()
    assert functions("type f = (_: {\n" * 20_000) == ()
    assert time.process_time() - begun < 1


def test_so_deep_and_no_deeper() -> None:
    for levels, read in ((LEVELS, True), (LEVELS + 1, False)):
        inner = "a: {\n" * (levels - 1) + "a: string,\n" + "},\n" * (levels - 1)
        (function,) = functions(f"type f = (_: {{\n{inner}}}) => any;")
        assert (function.arguments("word") != "{}") == read
