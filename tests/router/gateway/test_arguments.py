"""What calls of functions are held to, by the library that holds them to it."""

import json
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossia.common.vocabulary import encode
from router.gateway.arguments import held
from workers.grammar import content

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "pattern": "(?=x)"}, "days": {"type": "integer"}},
    "required": ["city"],
}


def may_be(parameters: dict[str, Any] | None, strict: bool, text: str) -> bool:
    body = content.json_schema(json.dumps(held(parameters, strict)), "parameters").begin()
    return all(body.accept(token) for token in encode(text)) and body.complete


@pytest.mark.parametrize(
    "text", ['{"city":"Paris","days":2}', '{"days": "two", "city": null}', "{}", '{"city":{"any":[1,{}]}}', '{"days":-1.5e3}']
)
def test_a_call_that_is_not_strict_has_declared_names_in_any_order_with_any_values(text: str) -> None:
    assert may_be(WEATHER, False, text)


@pytest.mark.parametrize("text", ['{"town":"Paris"}', '{"cit":1}', '{"city2":1}', '{"city":Paris}', "Paris", "[]", '{"city":1'])
def test_it_is_never_anything_else(text: str) -> None:
    assert not may_be(WEATHER, False, text)


def test_a_name_comes_once_where_there_are_few() -> None:
    for names in (["a"], ["a", "b"], ["a", "b", "c"]):
        parameters = {"type": "object", "properties": {name: {} for name in names}}
        for order in permutations(names):
            assert may_be(parameters, False, json.dumps(dict.fromkeys(order, 1)))
            assert not may_be(parameters, False, f'{{"{order[0]}":1,"{order[0]}":2}}')


def test_many_names_come_in_any_order() -> None:
    names = [f"name_{index}" for index in range(40)]
    parameters = {"type": "object", "properties": {name: {} for name in names}}
    assert may_be(parameters, False, json.dumps(dict.fromkeys(reversed(names), 1)))
    assert not may_be(parameters, False, '{"name_40":1}')


@pytest.mark.parametrize(
    "more",
    [
        {"additionalProperties": {"type": "string"}},
        {"additionalProperties": True},
        {"patternProperties": {"^x": {}}},
        {"$ref": "#/$defs/all"},
        {"properties": {}},
        {"properties": {'"': {}}},
        {"properties": {"größe": {}}},
        {"properties": 7},
    ],
)
def test_where_other_names_may_be_meant_it_is_any_object(more: dict[str, Any]) -> None:
    parameters = {**WEATHER, **more}
    assert may_be(parameters, False, '{"anything":{"at":["all"]}}')
    assert not may_be(parameters, False, "[]")


@pytest.mark.parametrize("parameters", [None, {}])
@pytest.mark.parametrize("strict", [True, False])
def test_a_function_without_parameters_is_given_none(parameters: dict[str, Any] | None, strict: bool) -> None:
    assert may_be(parameters, strict, "{}")
    assert not may_be(parameters, strict, '{"a":1}')


def test_a_strict_call_satisfies_the_parameters() -> None:
    days = {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"], "additionalProperties": False}
    assert may_be(days, True, '{"days":2}')
    assert not may_be(days, True, '{"days":"two"}')


@settings(max_examples=30)
@given(st.dictionaries(st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=8), st.none(), max_size=4))
def test_no_declared_name_is_ever_forbidden(names: dict[str, None]) -> None:
    parameters = {"type": "object", "properties": {name: {} for name in names}}
    text = json.dumps(dict.fromkeys(names, 1), ensure_ascii=False)
    assert may_be(parameters, False, text) or not names
