"""What the arguments of a call are held to: for a strict function all that its parameters say, for another their names."""

import re
from collections.abc import Mapping, Sequence
from itertools import permutations

from router.gateway.errors import Json

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ELSEWHERE = frozenset(("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties", "dependentSchemas"))
"""What may name more properties than `properties` does."""
_ORDERED = 3
"""Names of which each order is allowed by itself, so that none comes twice: six cost what one does, 120 up to 40 ms a token."""


def held(parameters: Mapping[str, object] | None, strict: bool) -> Json:
    """A JSON schema of the arguments.

    Without `strict`, OpenAI's API promises nothing. Here such a call is a JSON object at least, whose keys are names that the
    function has, in any order and, of up to three, none twice; types, and which of them are needed, are up to the model. No
    declaration is refused for it.
    """
    if not parameters:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    if strict:
        return dict(parameters)
    return _named(parameters) or {"type": "object"}


def unheld(parameters: Mapping[str, object] | None, strict: bool) -> Json | None:
    """What the function says of its arguments, where `held` is less."""
    return None if strict or not parameters else dict(parameters)


def _named(parameters: Mapping[str, object]) -> Json | None:
    """An object of the declared names, None where others may be meant."""
    names = parameters.get("properties")
    if not isinstance(names, dict) or not names or not parameters.keys().isdisjoint(_ELSEWHERE):
        return None
    if parameters.get("additionalProperties") or not all(_NAME.fullmatch(name) for name in names):
        return None
    if len(names) <= _ORDERED:
        return {"anyOf": [_ordered(order) for order in permutations(names)]}
    return {"type": "object", "patternProperties": {f"^({'|'.join(names)})$": {}}, "additionalProperties": False}


def _ordered(names: Sequence[str]) -> Json:
    """An object of these names, which grammars take in this order, each at most once."""
    return {"type": "object", "properties": {name: {} for name in names}, "additionalProperties": False}
