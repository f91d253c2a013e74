"""JSON schemas of varied shape. `python -m benchmarks.schemas` puts the same ones to a served model."""

import json
from pathlib import Path
from typing import Any

import jsonschema

from ossia.v1 import engine_pb2
from tests.workers.grammar.walks import bits, follow, start

Schema = dict[str, Any] | bool

_ALL: dict[str, dict[str, Schema]] = json.loads(Path(__file__).with_name("schemas.json").read_text())
BOUNDED, OPEN = _ALL["bounded"], _ALL["open"]
"""Those of which every text is short, by lengths, counts, values or patterns, and those of which some are not."""
REFUSED = _ALL["refused"]
"""Those that nobody can satisfy and those that the library cannot hold, each named by what is wrong with it."""


def satisfies(text: str, schema: Schema) -> bool:
    """Whether the text is JSON that the schema describes."""
    try:
        jsonschema.validate(json.loads(text), schema)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def goes_on(tokens: list[int], schema: Schema) -> bool:
    """Whether the grammar accepts the tokens one by one as the beginning of a text, after which something may come."""
    state = start(engine_pb2.Grammar(json_schema=json.dumps(schema)))
    try:
        follow(state, tokens)
    except (AssertionError, ValueError):
        return False
    return len(bits(state.mask())) > 0
