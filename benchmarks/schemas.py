"""Whether a served model keeps to the schemas of tests/workers/grammar/schemas.json, at temperature 1.

Each schema is asked for `--samples` times. What ends with `stop` must satisfy it, what is cut by `length` must be a beginning
that the grammar accepts, and a schema that cannot be held must be refused with 400. Prints one JSON object for every answer
that is none of these and then one with the counts and the share of the bounded schemas' answers that ended; exits with 1 where
there was such an answer. With `--bounded`, for random weights, which end nothing by themselves, schemas that bound no length
are left out, and it exits with 1 as well where fewer than 95 % of the others' answers ended.
Run: python -m benchmarks.schemas http://127.0.0.1:8000/v1 [--samples 5] [--bounded]
"""

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx

from ossia.common import vocabulary
from ossia.common.vocabulary import FIRST_SPECIAL
from tests.workers.grammar.corpus import BOUNDED, OPEN, REFUSED, Schema, goes_on, satisfies

MAX_TOKENS = 512
REASONING = 64  # tokens, behind which the answer begins
CONCURRENCY = 16
MUST_END = 0.95  # of the answers that are held to bounded schemas
PARAM = "response_format.json_schema.schema"


@dataclass(frozen=True)
class Question:
    kind: str
    name: str
    schema: Schema
    seed: int

    def body(self, model: str) -> dict[str, Any]:
        """The request of /v1/chat/completions; log probabilities come with the bytes of each token."""
        said = f"Fill in a form of the kind “{self.name}” with values of your own."
        return {
            "model": model,
            "messages": [{"role": "user", "content": said}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "form", "schema": self.schema}},
            "temperature": 1,
            "seed": self.seed,
            "max_tokens": MAX_TOKENS,
            "thinking_token_budget": REASONING,
            "logprobs": True,
        }


def questions(samples: int, bounded: bool = False) -> Iterator[Question]:
    """All of them, or without those of open schemas."""
    for kind, schemas in (("bounded", BOUNDED), ("open", {} if bounded else OPEN)):
        for name, schema in schemas.items():
            yield from (Question(kind, name, schema, seed) for seed in range(samples))
    yield from (Question("refused", name, schema, 0) for name, schema in REFUSED.items())


def verdict(question: Question, answer: httpx.Response) -> str:
    """What came of the question: "stop", "length" or "refused", or "wrong: ..."."""
    if question.kind == "refused":
        refused = answer.status_code == 400 and answer.json()["error"]["param"] == PARAM
        return "refused" if refused else "wrong: not refused"
    if answer.status_code != 200:
        return f"wrong: status {answer.status_code}"
    choice = answer.json()["choices"][0]
    match choice["finish_reason"]:
        case "stop":
            return "stop" if satisfies(choice["message"]["content"], question.schema) else "wrong: breaks the schema"
        case "length" if "finish_details" not in choice:
            return "length" if goes_on(_tokens(choice), question.schema) else "wrong: no beginning"
    return "wrong: it ends otherwise"


def _tokens(choice: dict[str, Any]) -> list[int]:
    """The ids of the answer's tokens."""
    said = (choice["logprobs"] or {}).get("content") or []
    return [_ids()[bytes(token["bytes"])] for token in said]


@cache
def _ids() -> dict[bytes, int]:
    """By their bytes, which no two have in common."""
    return {data: token for token, data in enumerate(vocabulary.load().table[:FIRST_SPECIAL])}


def ended(counts: Counter[str]) -> float:
    """The share of the bounded schemas' answers that did."""
    return counts["bounded, stop"] / sum(count for kind, count in counts.items() if kind.startswith("bounded"))


def passed(counts: Counter[str], bounded: bool) -> bool:
    """None was wrong and, where only bounded schemas were asked for, enough have ended."""
    return not any("wrong" in kind for kind in counts) and (not bounded or ended(counts) >= MUST_END)


async def ask(client: httpx.AsyncClient, model: str, queue: Iterator[Question]) -> Counter[str]:
    """How many questions came to what; prints the answers that are wrong."""
    counts = Counter[str]()

    async def work() -> None:
        for question in queue:
            answer = await client.post("chat/completions", json=question.body(model))
            found = verdict(question, answer)
            counts[f"{question.kind}, {found}"] += 1
            if found.startswith("wrong"):
                record = {"schema": question.name, "seed": question.seed, "verdict": found, "answer": answer.text}
                print(json.dumps(record), flush=True)

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
    return counts


async def run(url: str, queue: Iterator[Question]) -> Counter[str]:
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        models = await client.get("models")
        return await ask(client, models.raise_for_status().json()["data"][0]["id"], queue)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--bounded", action="store_true")
    options = parser.parse_args()
    counts = asyncio.run(run(options.url, questions(options.samples, options.bounded)))
    print(json.dumps({**dict(sorted(counts.items())), "bounded_ended": round(ended(counts), 4)}))
    if not passed(counts, options.bounded):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
