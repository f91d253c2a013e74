"""What grammars cost: draws outputs from the masks of several kinds, then runs steps of a model, and prints times as JSON.

    python -m benchmarks.grammar [MODEL] [--outputs 50] [--seed 0] [--batch 1 16 64]

`mask_us` and `accept_us` are the processor's microseconds a token (p50, p99), `compile_ms` is the first use, `one_bit` the part
of the tokens that had no alternative. Tokens are drawn evenly, which is harder on grammars than what models write.

Then MODEL, by default ossia-tiny, runs so many requests at once on one rank, temperature 1, held to nothing and to each
grammar: `step_ms` is the median of the steps that decode, `mask_us` what all masks of one step take (p50, p99), `share` that
time beside the time of all steps, and `grammar_share` that of masks, accepted tokens and drafts. Masks are computed while the
model runs. Steps of different grammars do not compare: outputs end, and are drafted, at different places.
"""

import argparse
import json
import random
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ossia.common.vocabulary import CALL, END, RETURN, SIZE
from ossia.v1 import engine_pb2
from workers import grammar
from workers.engine.grammar import Allowed, Grammar, spelled
from workers.engine.limits import Limits
from workers.engine.plan import Runner
from workers.engine.sampling import Sampling
from workers.engine.stepper import Stepper

LONGEST = 400
DECODED = 64  # tokens of a request in the steps of a model
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


def draw(allowed: NDArray[np.int64], source: random.Random) -> int:
    """One of the tokens, an end in three of ten places where there is one."""
    ends = [token for token in (RETURN, CALL, END) if token in allowed[-3:]]
    return ends[0] if ends and source.random() < 0.3 else int(source.choice(allowed))


def output(compiled: grammar.Compiled, source: random.Random) -> Iterator[tuple[int, int, int]]:
    """Of each token: nanoseconds of mask and of accept, and how many ids were allowed."""
    state = compiled.start()
    for _ in range(LONGEST):
        begin = time.thread_time_ns()
        mask = state.mask()
        middle = time.thread_time_ns()
        if not len(allowed := np.flatnonzero(spelled(mask, SIZE))):
            return
        token = draw(allowed, source)
        resumed = time.thread_time_ns()
        state.accept(token)
        yield middle - begin, time.thread_time_ns() - resumed, len(allowed)


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


@dataclass
class Spent:
    """Seconds of one step in its grammars."""

    masks: float = 0.0
    rest: float = 0.0


class Timed:
    """A grammar that adds what its calls take, in whatever thread, to the last of `spent`, which all share."""

    def __init__(self, grammar: Grammar, spent: list[Spent], lock: threading.Lock) -> None:
        self._grammar = grammar
        self._spent = spent
        self._lock = lock

    @property
    def slow(self) -> bool:
        return self._grammar.slow

    @property
    def stalled(self) -> bool:
        return self._grammar.stalled

    def renew(self) -> None:
        self._grammar.renew()

    def mask(self) -> Allowed:
        begin = time.perf_counter()
        mask = self._grammar.mask()
        with self._lock:
            self._spent[-1].masks += time.perf_counter() - begin
        return mask

    def accept(self, token: int) -> None:
        with self._rest():
            self._grammar.accept(token)

    def rollback(self, count: int) -> None:
        with self._rest():
            self._grammar.rollback(count)

    def forced(self, limit: int) -> list[int]:
        with self._rest():
            return self._grammar.forced(limit)

    @contextmanager
    def _rest(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        with self._lock:
            self._spent[-1].rest += time.perf_counter() - begin


def steps(runner: Runner, limits: Limits, message: engine_pb2.Grammar | None, batch: int, tokens: int) -> dict[str, object]:
    """The times of steps in which `batch` requests with the grammar decode up to so many tokens."""
    compiled = None if message is None else grammar.compile(message, SIZE)
    spent, lock, stepper = [Spent()], threading.Lock(), Stepper(runner, limits)
    for number in range(batch):
        sampling = Sampling(temperature=1.0, seed=number, max_tokens=tokens)
        state = Timed(compiled.start(), spent, lock) if compiled else None
        stepper.submit(limits.accept((0, number), [1000 + number] * 16, sampling, grammar=state))
    stepper.step()  # the prompts
    seconds: list[float] = []
    while stepper.busy:
        spent.append(Spent())
        seconds.append(stepper.step().step_s)
    masks = np.array([step.masks for step in spent[1:]])
    rest = sum(step.rest for step in spent[1:])
    return {
        "batch": batch,
        "steps": len(seconds),
        "step_ms": round(statistics.median(seconds) * 1000, 2),
        "mask_us": (np.percentile(masks, (50, 99)) * 1e6).round(1).tolist(),
        "share": round(float(masks.sum()) / sum(seconds), 4),
        "grammar_share": round((float(masks.sum()) + rest) / sum(seconds), 4),
    }


def run(model: Path, batches: list[int], tokens: int = DECODED) -> None:
    """Steps of the model, held to nothing and to each grammar, for each batch."""
    from workers.runner.build import build
    from workers.runner.built import limits
    from workers.runner.spec import RunnerSpec

    spec = RunnerSpec(str(model), max_context=2048, max_sequences=max(batches), token_budget=max(512, 16 * max(batches)))
    runner = build(spec, 0, None)
    held = limits(spec, runner)
    for name, message in {"none": None, **kinds()}.items():
        for batch in batches:
            print(json.dumps({"grammar": name, **steps(runner, held, message, batch, tokens)}), flush=True)
    runner.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--outputs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64])
    arguments = parser.parse_args()
    from cluster.make_checkpoint import default_checkpoint

    grammar.load()
    for name, message in kinds().items():
        print(json.dumps({"grammar": name, **measure(message, arguments.outputs, arguments.seed)}), flush=True)
    run(arguments.model or default_checkpoint(), arguments.batch)


if __name__ == "__main__":
    main()
