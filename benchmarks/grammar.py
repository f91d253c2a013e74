"""What grammars cost a step: draws outputs from the masks of several kinds and prints their times as JSON.

    python -m benchmarks.grammar [--outputs 50] [--seed 0]

`mask_us` and `accept_us` are the processor's microseconds a token (p50, p99), `compile_ms` is the first use, `one_bit` the part
of the tokens that had no alternative. Tokens are drawn evenly, which is harder on grammars than what models write.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator

import numpy as np

from ossia.common.vocabulary import CALL, END, RETURN, SIZE
from ossia.v1 import engine_pb2
from workers import grammar
from workers.engine.grammar import Mask

LONGEST = 400
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 4},
        "home": {"$ref": "#/$defs/place"},
    },
    "required": ["name", "age", "tags", "home"],
    "additionalProperties": False,
    "$defs": {
        "place": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 30}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
            "required": ["city", "zip"],
            "additionalProperties": False,
        }
    },
}
ARITHMETIC = 'start: sum\nsum: (sum ("+" | "-"))? product\nproduct: (product "*")? atom\natom: /[0-9]{1,4}/ | "(" sum ")"'


def kinds() -> dict[str, engine_pb2.Grammar]:
    """The grammars that are timed, by name."""
    functions = [engine_pb2.Function(recipient=f"functions.do_thing_{n}", parameters=json.dumps(PERSON)) for n in range(20)]
    return {
        "harmony": engine_pb2.Grammar(harmony=True),
        "harmony, 20 strict functions": engine_pb2.Grammar(harmony=True, functions=functions),
        "json_schema": engine_pb2.Grammar(json_schema=json.dumps(PERSON)),
        "any json object": engine_pb2.Grammar(json_schema='{"type": "object"}'),
        "regex": engine_pb2.Grammar(regex=r"[a-z.]{1,20}@[a-z]{1,20}\.(com|org|net)"),
        "choice": engine_pb2.Grammar(choice=engine_pb2.Choice(texts=[f"label {n}" for n in range(100)])),
        "lark": engine_pb2.Grammar(lark=ARITHMETIC),
    }


def draw(mask: Mask, source: random.Random) -> tuple[int, int]:
    """A token that the mask allows, an end in three of ten places where there is one, and how many it allows."""
    allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
    ends = [token for token in (RETURN, CALL, END) if token in allowed[-3:]]
    token = ends[0] if ends and source.random() < 0.3 else int(source.choice(allowed))
    return token, len(allowed)


def output(compiled: grammar.Compiled, source: random.Random) -> Iterator[tuple[int, int, int]]:
    """Of each token: nanoseconds of mask and of accept, and how many ids were allowed."""
    state = compiled.start()
    for _ in range(LONGEST):
        begin = time.thread_time_ns()
        mask = state.mask()
        middle = time.thread_time_ns()
        if mask is None or not mask.any():
            return
        token, allowed = draw(mask, source)
        resumed = time.thread_time_ns()
        state.accept(token)
        yield middle - begin, time.thread_time_ns() - resumed, allowed


def measure(message: engine_pb2.Grammar, outputs: int, seed: int) -> dict[str, object]:
    """The times of one grammar."""
    source = random.Random(seed)
    begin = time.perf_counter()
    compiled = grammar.compile(message, SIZE)
    elapsed = time.perf_counter() - begin
    tokens = np.array([token for _ in range(outputs) for token in output(compiled, source)])
    masks, accepts = (np.percentile(tokens[:, column] / 1000, (50, 99)).round(1).tolist() for column in (0, 1))
    return {
        "compile_ms": round(elapsed * 1000, 1),
        "tokens": len(tokens),
        "mask_us": masks,
        "accept_us": accepts,
        "one_bit": round(float((tokens[:, 2] == 1).mean()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outputs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    grammar.load()
    for name, message in kinds().items():
        print(json.dumps({"grammar": name, **measure(message, arguments.outputs, arguments.seed)}), flush=True)


if __name__ == "__main__":
    main()
