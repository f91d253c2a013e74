"""What the arguments of a call are held to: for a strict function all that its parameters say, for another their names."""

import re
from collections.abc import Mapping

from router.gateway.errors import Json

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ELSEWHERE = frozenset(("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties", "dependentSchemas"))
"""What may name more properties than `properties` does."""


def held(parameters: Mapping[str, object] | None, strict: bool) -> Json:
    """A JSON schema of the arguments.

    Without `strict`, OpenAI's API promises nothing. Here such a call is a JSON object at least, whose keys are names that the
    function has, in any order; types, and which of them are needed, are the model's. That cannot refuse any declaration.
    """
    if not parameters:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    if strict:
        return dict(parameters)
    return _named(parameters) or {"type": "object"}


def _named(parameters: Mapping[str, object]) -> Json | None:
    """An object of the declared names, None where others may be meant."""
    names = parameters.get("properties")
    if not isinstance(names, dict) or not names or not parameters.keys().isdisjoint(_ELSEWHERE):
        return None
    if parameters.get("additionalProperties") or not all(_NAME.fullmatch(name) for name in names):
        return None
    return {"type": "object", "patternProperties": {f"^({'|'.join(names)})$": {}}, "additionalProperties": False}
