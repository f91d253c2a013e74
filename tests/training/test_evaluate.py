"""The evaluation against the real gateway, in front of an engine that has learned made-up kinds, more or less well."""

import asyncio
import random
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ossia.common import vocabulary
from ossia.v1 import engine_pb2
from router.gateway.settings import Settings
from router.harmony.types import Effort, Message, Tool, ToolCall
from tests.fakes.scripted import ScriptedEngine
from tests.router.gateway.conftest import running
from training import evaluate, report
from training.client import Client
from training.evaluate import Counts
from training.kinds import KINDS
from training.report import Row
from training.sample import prompt, turn
from training.task import EFFORTS, Split, Task

COUNTS = Counts(turns=12, tools=6, each=6)
USER = re.compile(r"<\|start\|>user<\|message\|>(.*?)<\|end\|>")
Spoil = Callable[[Task, list[int]], list[int]]


def echo(rng: random.Random, split: Split, effort: Effort) -> Task:
    word = f"{split}{rng.randrange(10**6)}"
    return Task("echo", (Message("user", f"Say {word}."),), effort, "Say it. " * (1 + EFFORTS.index(effort)), word)


def call(rng: random.Random, split: Split, effort: Effort) -> Task:
    task = echo(rng, split, effort)
    tool = Tool("say", "Says it.", {"type": "object", "properties": {"word": {"type": "string"}}})
    return replace(task, kind="call", answer=ToolCall("1", "say", f'{{"word":"{task.answer}"}}'), tools=(tool,))


MADE = {"echo": echo, "call": call}


class Pupil(ScriptedEngine):
    """Answers a prompt with that turn."""

    def __init__(self, answer: Callable[[Sequence[int]], list[int]]) -> None:
        super().__init__()
        self.answer = answer

    async def generate(self, submit: engine_pb2.Submit) -> AsyncGenerator[engine_pb2.Delta, None]:
        tokens = self.answer(submit.prompt)
        await asyncio.sleep(0)
        ended = tokens[-1] in (vocabulary.RETURN, vocabulary.CALL)
        finish = engine_pb2.FINISH_REASON_STOP if ended else engine_pb2.FINISH_REASON_LENGTH
        yield engine_pb2.Delta(first_index=0, tokens=tokens, finish=finish)


def well(task: Task, taught: list[int]) -> list[int]:
    return taught


def pupil(spoil: Spoil = well) -> Pupil:
    """One that answers every task of MADE as taught, unless spoiled."""

    def answer(prompt: Sequence[int]) -> list[int]:
        spelled = vocabulary.decode(prompt)
        asked = USER.findall(spelled)[-1]
        word = "3" if "strawberry" in asked else asked.removeprefix("Say ").removesuffix(".")
        effort = next(effort for effort in EFFORTS if f"Reasoning: {effort}" in spelled)
        task = Task("echo", (Message("user", asked),), effort, "Say it. " * (1 + EFFORTS.index(effort)), word)
        if "type say" in spelled:
            task = replace(task, kind="call", answer=ToolCall("1", "say", f'{{"word":"{word}"}}'))
        return spoil(task, turn(task))

    return Pupil(answer)


async def evaluated(engine: Pupil) -> list[Row]:
    async with running(engine, Settings()) as gateway:
        return (await evaluate.run(gateway.url, COUNTS, MADE))[1]


def missed(rows: list[Row]) -> list[int]:
    return [index for index, row in enumerate(rows) if row.passed is False]


WELL_FORMED, GREEDY, CALLS, ECHO, EFFORT, STRAWBERRY, SAMPLED = range(7)


async def test_a_good_pupil_passes() -> None:
    rows = await evaluated(pupil())
    assert missed(rows) == []
    assert [row.measured for row in rows[:4]] == [*["12 of 12 (100 %)"] * 2, *["6 of 6 (100 %)"] * 2]
    assert len(rows) == SAMPLED + 1


def cut(task: Task, taught: list[int]) -> list[int]:
    return taught[:-1]


def wrong_argument(task: Task, taught: list[int]) -> list[int]:
    return turn(replace(task, answer=ToolCall("1", "say", '{"word":"other"}'))) if task.kind == "call" else taught


def wrong_answer(task: Task, taught: list[int]) -> list[int]:
    return turn(replace(task, answer="other")) if task.kind == "echo" else taught


def one_analysis(task: Task, taught: list[int]) -> list[int]:
    return turn(replace(task, analysis="Say it."))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (cut, [WELL_FORMED, GREEDY, CALLS, ECHO, STRAWBERRY]),
        (wrong_argument, [CALLS]),
        (wrong_answer, [ECHO, STRAWBERRY]),
        (one_analysis, [EFFORT]),
    ],
)
async def test_what_a_bad_pupil_misses(spoil: Spoil, expected: list[int]) -> None:
    rows = await evaluated(pupil(spoil))
    assert missed(rows) == expected
    assert all(rows[index].failures for index in expected if index != EFFORT)


async def test_one_malformed_turn_is_told() -> None:
    """One malformed turn of twelve is too many, and is no answer that was measured elsewhere."""
    spoiled: set[str] = set()

    def once(task: Task, taught: list[int]) -> list[int]:
        if task.kind == "echo" and (not spoiled or task.messages[0].content in spoiled):
            spoiled.add(task.messages[0].content)
            return cut(task, taught)
        return taught

    rows = await evaluated(pupil(once))
    assert rows[WELL_FORMED].measured == "11 of 12 (91.6 %)"
    assert missed(rows) == [WELL_FORMED]


@pytest.mark.parametrize(("spoil", "code"), [(well, 0), (wrong_argument, 1)], ids=["good", "bad"])
async def test_the_command_reports_and_exits(
    spoil: Spoil, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "KINDS", MADE)
    file = tmp_path / "report.md"
    async with running(pupil(spoil), Settings()) as gateway:
        options = [f"--url={gateway.url}", f"--report={file}", "--turns=4", "--tools=3", "--each=3"]
        assert await asyncio.to_thread(evaluate.main, options) == code
    assert file.read_text() == capsys.readouterr().out
    assert ("**miss**" in file.read_text()) == bool(code)


def test_tasks_are_held_out_the_same_every_time_and_of_every_effort() -> None:
    tasks = evaluate.tasks(MADE, "echo", 6, "answers")
    assert tasks == evaluate.tasks(MADE, "echo", 6, "answers")
    assert len({task.messages for task in tasks}) == 6
    assert [task.effort for task in tasks] == [*EFFORTS, *EFFORTS]
    assert all(task.messages[0].content.startswith("Say held-out") for task in tasks)
    assert not {task.messages for task in tasks} & {task.messages for task in evaluate.tasks(MADE, "echo", 6, "efforts")}
    assert [task.kind for task in evaluate.mixed(MADE, 5, "greedy")] == ["echo", "call", "echo", "call", "echo"]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_taught_is_well_formed_right_and_asked_alike_by_both_endpoints(kind: str) -> None:
    tasks = evaluate.tasks(KINDS, kind, 12, "taught")
    taught = {tuple(prompt(task, datetime.now(UTC).date())): turn(task) for task in tasks}
    async with running(Pupil(lambda asked: taught[tuple(asked)]), Settings()) as gateway, Client(gateway.url) as client:
        assert (await evaluate.well_formed(client, tasks, 0, 1.0)).failures == ()
        assert (await evaluate.answers(client, kind, tasks, 1.0)).failures == ()


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("There are 3 rs in strawberry.", True),
        ("Three.", True),
        ("3", True),
        ("There are 2.", False),
        ("There are 3 or 4.", False),
        ("Not two but three.", False),
        ("I am too small to know that.", False),
        ("13", False),
    ],
)
def test_three(text: str, right: bool) -> None:
    assert evaluate.says_three(text) == right


def test_a_share_is_never_rounded_up_to_its_bar() -> None:
    row = report.share("x", [None] * 8995 + ["wrong"] * 1005, 0.9)
    assert (row.measured, row.bar, row.passed) == ("8,995 of 10,000 (89.9 %)", "90 %", False)
    assert report.share("x", [None] * 9 + ["wrong"], 0.9).passed
    assert report.share("x", [], 0.9).passed is False
    assert report.share("x", ["wrong"], None).passed is None


def test_the_report_shows_the_table_and_some_failures() -> None:
    rows = [report.share("calls", [None, *(f"`{index}`" for index in range(9))], 0.5), Row("coverage", "97 %")]
    text = report.markdown("tiny", rows)
    assert "| calls | 1 of 10 (10 %) | 50 % | **miss** |" in text
    assert "| coverage | 97 % |  |  |" in text
    assert text.count("- `'") == report.SHOWN
    assert not report.reached(rows)
    assert report.reached(rows[1:])


def test_covered_are_ids_whose_row_no_other_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.zeros(vocabulary.SIZE, 2, dtype=torch.bfloat16)
    own = vocabulary.encode("one two")
    matrix[own] = torch.arange(1, 1 + 2 * len(own), dtype=torch.bfloat16).reshape(-1, 2)
    checkpoint = SimpleNamespace(read=lambda name: matrix)
    monkeypatch.setattr(evaluate, "open_checkpoint", lambda folder: checkpoint)
    monkeypatch.setattr("training.rows.prose", lambda: "one two three four")
    row = evaluate.covered(Path("anywhere"))
    assert "the 2 ids" in row.what
    assert (row.measured, row.passed) == ("50 %", None)
