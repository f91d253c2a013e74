"""The judge of a served model's answers must find fault with wrong ones."""

import asyncio
import json
from collections import Counter
from typing import Any

import httpx
import pytest

from benchmarks.schemas import PARAM, Question, ask, ended, passed, questions, verdict
from ossia.common.vocabulary import encode, token_bytes
from tests.workers.grammar.corpus import BOUNDED, OPEN, REFUSED

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
HELD = Question("bounded", "a", SCHEMA, 0)
UNHELD = Question("refused", "not", {"not": {}}, 0)


def answered(text: str, finish: str, **fields: Any) -> httpx.Response:
    tokens = [{"bytes": list(token_bytes(token))} for token in encode(text)]
    choice = {"message": {"content": text}, "finish_reason": finish, "logprobs": {"content": tokens}, **fields}
    return httpx.Response(200, json={"choices": [choice]})


def refused(status: int, param: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"param": param}})


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        (HELD, answered('{"a":1}', "stop"), "stop"),
        (HELD, answered('{"a":1.5}', "stop"), "wrong: breaks the schema"),
        (HELD, answered('{"a":', "stop"), "wrong: breaks the schema"),
        (HELD, answered('{"a":12', "length"), "length"),
        (HELD, answered("", "length", logprobs=None), "length"),
        (HELD, answered('{"b', "length"), "wrong: no beginning"),
        (HELD, answered('{"a":', "length", finish_details={"type": "grammar"}), "wrong: it ends otherwise"),
        (HELD, answered("", "tool_calls"), "wrong: it ends otherwise"),
        (HELD, refused(400, PARAM), "wrong: status 400"),
        (UNHELD, refused(400, PARAM), "refused"),
        (UNHELD, refused(400, "response_format"), "wrong: not refused"),
        (UNHELD, refused(500, PARAM), "wrong: not refused"),
        (UNHELD, answered("1", "stop"), "wrong: not refused"),
    ],
)
def test_verdicts(question: Question, answer: httpx.Response, expected: str) -> None:
    assert verdict(question, answer) == expected


def test_every_schema_is_asked_for_and_wrong_answers_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return refused(400, PARAM)

    async def run() -> dict[str, int]:
        async with httpx.AsyncClient(base_url="http://test/v1", transport=httpx.MockTransport(answer)) as client:
            return await ask(client, "model", questions(2))

    counts = asyncio.run(run())
    wrong = 2 * (len(BOUNDED) + len(OPEN))
    assert sum(counts.values()) == len(asked) == len([*questions(2)]) == wrong + len(REFUSED)
    assert counts["refused, refused"] == len(REFUSED)
    assert len(capsys.readouterr().out.splitlines()) == wrong


def test_without_open_schemas_nothing_else_is_left_out() -> None:
    kinds = Counter(question.kind for question in questions(3, bounded=True))
    assert kinds == {"bounded": 3 * len(BOUNDED), "refused": len(REFUSED)}


@pytest.mark.parametrize(
    ("counts", "share", "of_all", "of_bounded"),
    [
        ({"bounded, stop": 95, "bounded, length": 5, "refused, refused": 9}, 0.95, True, True),
        ({"bounded, stop": 94, "bounded, length": 6, "open, stop": 50}, 0.94, True, False),
        ({"bounded, stop": 99, "bounded, wrong: status 500": 1}, 0.99, False, False),
        ({"bounded, stop": 4, "refused, wrong: not refused": 1}, 1.0, False, False),
    ],
)
def test_what_passes(counts: dict[str, int], share: float, of_all: bool, of_bounded: bool) -> None:
    found = Counter(counts)
    assert (ended(found), passed(found, bounded=False), passed(found, bounded=True)) == (share, of_all, of_bounded)
