"""A JSON schema in the form that llguidance takes, or what is wrong with it. Knows nothing of masks and matchers."""

import json
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NoReturn

from ossia.common import vocabulary
from workers.engine.checks import invalid
from workers.grammar import masks

OPTIONS = {
    "item_separator": ", ?",
    "key_separator": ": ?",
    "whitespace_flexible": False,
    "whitespace_pattern": None,
    "coerce_one_of": False,
    "lenient": False,
}
"""The library's own, under "x-guidance"; they are not the caller's to set."""

_FORCED = 256
"""Characters that a schema's own texts may have for the library to force them on the model, cut as the vocabulary cuts them. It
looks at all of what is forced for each token, which takes seconds for long texts."""
_GREATEST = 2**53
_LEAST, _MOST = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
_REMAINDERS = 1 << 12
"""States of the automaton of all a schema's `multipleOf` together, one for each remainder: a million take seconds to be made,
and what takes more than the library's fuel for one step shows only where the number begins."""
_NAMED = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))  # schemas by a name
_VALUES = ("const", "enum")
_NOTES = frozenset(("title", "description", "$comment", "default", "examples"))


def schema_grammar(text: str, field: str) -> tuple[str, bool]:
    """The schema for the library, and whether it may force what the schema leaves no choice in.

    Raises Refusal where this is no JSON schema, or one with numbers that the library does not calculate with.
    """
    try:
        schema = json.loads(text, parse_constant=_no_constant)
        if not isinstance(schema := {} if schema is True else schema, dict):
            raise invalid("the schema must be a JSON object that something satisfies", "INVALID_GRAMMAR", field)
        nodes = list(_nodes(schema))
        for node in nodes:
            _bound_numbers(node, field)
        _check_multiples(nodes, field)
        schema["x-guidance"] = OPTIONS
        return json.dumps(schema), all(_forces_little(node) for node in nodes)
    except (ValueError, RecursionError) as error:
        raise invalid(f"the schema is no JSON: {error}", "INVALID_GRAMMAR", field) from error


def _nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema and those within it, but neither what they are the schemas of nor what only tells of it."""
    inner: list[Any] = [schema]
    for node in inner:
        match node:
            case dict():
                yield node
                for key, value in node.items():
                    if key in _NAMED and isinstance(value, dict):
                        inner.extend(value.values())
                    elif key not in _VALUES and key not in _NOTES:
                        inner.append(value)
            case list():
                inner.extend(node)


def _bound_numbers(node: dict[str, Any], field: str) -> None:
    """Brings bounds within the numbers that the library calculates with; raises Refusal where others are beyond them.

    It takes numbers for float64, so that greater ones are not what they were, and -2 ** 63 ends the process.
    """
    node.update({key: max(node[key], -_GREATEST) for key in _LEAST if isinstance(node.get(key), int | float)})
    node.update({key: min(node[key], _GREATEST) for key in _MOST if isinstance(node.get(key), int | float)})
    said = [value for key, value in node.items() if key not in _NOTES]
    beyond = [number for number in said if isinstance(number, int | float) and abs(number) > _GREATEST]
    beyond += [number for number in _numbers([node[key] for key in _VALUES if key in node]) if not _exact(number)]
    if beyond:
        raise invalid(f"{beyond[0]} is no number that is kept exact", "UNSUPPORTED_GRAMMAR", field)


def _exact(number: int | float) -> bool:
    """Whether the library reads and writes the number as it is. It multiplies all digits by a power of ten, in float64."""
    if abs(number) > _GREATEST:
        return False
    decimal = Decimal(str(number)).normalize()
    exponent = int(decimal.as_tuple().exponent)
    return abs(decimal.scaleb(-exponent)) <= _GREATEST and exponent >= -22


def _check_multiples(nodes: Sequence[dict[str, Any]], field: str) -> None:
    """Raises Refusal where there are too many remainders to tell apart. `allOf` makes one number of several."""
    values = (node.get("multipleOf") for node in nodes)
    factors = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if min(factors, default=1) <= 0:
        raise invalid("multipleOf must be above 0", "UNSUPPORTED_GRAMMAR", field)
    decimals = [Decimal(str(factor)).normalize() for factor in factors]
    places = max([0, *(-int(decimal.as_tuple().exponent) for decimal in decimals)])
    remainders = math.lcm(*(int(decimal.scaleb(places)) for decimal in decimals))
    if remainders > _REMAINDERS:
        message = f"the schema's multipleOf have {remainders} remainders together, more than {_REMAINDERS}"
        raise invalid(message, "UNSUPPORTED_GRAMMAR", field)


def _numbers(values: list[Any]) -> Iterator[int | float]:
    for value in values:
        match value:
            case bool():
                pass
            case int() | float():
                yield value
            case dict():
                values.extend(value.values())
            case list():
                values.extend(value)


def _forces_little(node: dict[str, Any]) -> bool:
    """Whether all that the node leaves no choice in is short. Patterns and nested arrays can be of any length."""
    if not node.keys().isdisjoint(("pattern", "patternProperties", "minItems")):
        return False
    said = [node.get("const"), *_listed(node, "enum")]
    texts = [json.dumps(value, ensure_ascii=False) for value in said]
    names = [name for key in ("properties", "required") for name in _listed(node, key) if isinstance(name, str)]
    return all(map(_forceable, (*texts, *names)))


def _listed(node: dict[str, Any], key: str) -> list[Any]:
    """What stands under the key; nothing where that is neither a list nor an object, which the library finds fault with."""
    listed = node.get(key)
    return [*listed] if isinstance(listed, list | dict) else []


def _forceable(text: str) -> bool:
    """Whether the library cuts the text as the vocabulary does: it is short, and no token of it ends within a character."""
    if len(text) > _FORCED:
        return False
    table = vocabulary.load().table
    return not any(masks.unfinished(table[token]) for token in vocabulary.encode(text))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
