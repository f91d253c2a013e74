from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.common import vocabulary
from router.harmony.functions import describe
from router.harmony.render import render
from router.harmony.types import Tool
from tests.router.harmony.streams import RELAXED


def printed(parameters: dict[str, Any]) -> str:
    text = vocabulary.decode(render([], [Tool("f", "d", parameters)], "low", None))
    return text.split("type f = ")[1].split(" => any;")[0]


def field(schema: Any) -> str:
    return printed({"type": "object", "properties": {"a": schema}}).removeprefix("(_: {\na?:").removesuffix(",\n})").strip()


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "string"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "| string\n | null"),
        ({"const": "x"}, '"x"'),
        ({"enum": ["x", "y"]}, '"x" | "y"'),
        ({"$ref": "#/$defs/none"}, "any"),
        (True, "any"),
    ],
)
def test_is_printed_as(schema: Any, expected: str) -> None:
    assert field(schema) == expected


def test_references_are_followed_once_around() -> None:
    node = {"type": "object", "properties": {"name": {"type": "string"}, "next": {"$ref": "#/$defs/node"}}}
    text = printed({"type": "object", "properties": {"head": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}})
    assert text.count("name?: string") == 1
    assert text.count("next?: any") == 1


def test_references_cannot_repeat_a_text_without_end() -> None:
    """A short schema, which would be 200 MB."""
    properties = {f"p{number}": {"$ref": "#/$defs/a"} for number in range(2000)}
    text = "word " * 20_000
    defined = {"type": "string", "description": text}
    described = describe(Tool("f", "d", {"type": "object", "properties": properties, "$defs": {"a": defined}}), "f").parameters
    assert described is not None
    parts = list(described["properties"].values())
    assert parts[0] == defined
    assert parts.count(defined) == 3
    assert parts[3:] == [{}] * 1997


def test_references_cannot_make_a_schema_endless() -> None:
    definitions = {
        f"d{level}": {"type": "object", "properties": {side: {"$ref": f"#/$defs/d{level + 1}"} for side in "abcdefgh"}}
        for level in range(20)
    }
    assert len(printed({"$ref": "#/$defs/d0", "$defs": definitions})) < 400_000


def test_nested_descriptions_stay_comments() -> None:
    inner = {"type": "object", "properties": {"b": {"type": "string", "description": "one\ntwo"}}}
    assert "// one two\n" in printed({"type": "object", "properties": {"a": inner}})


@pytest.mark.parametrize("key", ["properties", "items", "oneOf", "default", "enum", "anything"])
@pytest.mark.parametrize("step", [lambda inner, key: {key: inner}, lambda inner, key: [inner]])
def test_no_depth_is_too_much(key: str, step: Callable[[Any, str], Any]) -> None:
    schema: Any = {}
    for _ in range(180):
        schema = step(schema, key)
    assert "type f = " in vocabulary.decode(render([], [Tool("f", "d", {key: schema})], "low", None))


KEYS = st.sampled_from(
    ("type", "properties", "items", "oneOf", "anyOf", "enum", "$ref", "const", "required", "description", "default", "a")
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "items", "oneOf", "anyOf", "enum", "$ref", "const", "required", "description", "a"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@RELAXED
@given(st.dictionaries(KEYS, json_values))
def test_any_json_is_printed(parameters: dict[str, Any]) -> None:
    assert printed(parameters)


def test_depth_is_bounded() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(200):
        schema = {"type": "object", "properties": {"a": schema}}
    assert field(schema).endswith("}")
