"""Measures ossia-tiny on held-out tasks, through a running server: `python -m training.evaluate`.

Prints a Markdown report; exit code 1 when a bar is missed. The tasks are the same in every run.
"""

import argparse
import asyncio
import random
import re
import sys
import tempfile
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from tqdm.asyncio import tqdm

from cluster.make_checkpoint import default_checkpoint
from ossia.common import vocabulary
from ossia.common.errors import UserError
from router.harmony.types import Message, ToolCall
from tests.e2e.serving import Serving
from training import judge, report, rows
from training.client import Client
from training.judge import Said
from training.kinds import KINDS
from training.kinds.counting import README
from training.report import Row, share
from training.task import EFFORTS, Make, Task
from workers.checkpoint import open_checkpoint

CALL = "call"
WELL_FORMED, GREEDY, CALLS, ANSWERS = 0.99, 1.0, 0.90, 0.85
NUMBER = re.compile(r"\d+|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten)\b")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Counts:
    """How many tasks each measurement takes: turns at temperature 1 and as many greedy, calls, and of each other kind."""

    turns: int = 1000
    tools: int = 300
    each: int = 100


QUICK = Counts(turns=100, tools=50, each=20)


def tasks(kinds: Mapping[str, Make], kind: str, count: int, purpose: str) -> list[Task]:
    """Held-out tasks of one kind, of every effort in turn; each `purpose` has its own."""
    return [
        kinds[kind](random.Random(f"evaluate {purpose} {kind} {index}"), "held-out", EFFORTS[index % len(EFFORTS)])
        for index in range(count)
    ]


def mixed(kinds: Mapping[str, Make], count: int, purpose: str) -> list[Task]:
    """Held-out tasks of all kinds in turn."""
    of_each = [tasks(kinds, kind, -(-count // len(kinds)), purpose) for kind in kinds]
    return [task for group in zip(*of_each, strict=True) for task in group][:count]


async def evaluate(client: Client, counts: Counts, kinds: Mapping[str, Make]) -> list[Row]:
    """All that needs a server."""
    measured = [
        await well_formed(client, mixed(kinds, counts.turns, "sampled"), 1, WELL_FORMED),
        await well_formed(client, mixed(kinds, counts.turns, "greedy"), 0, GREEDY),
        await answers(client, CALL, tasks(kinds, CALL, counts.tools, "answers"), CALLS),
    ]
    for kind in kinds:
        if kind != CALL:
            measured.append(await answers(client, kind, tasks(kinds, kind, counts.each, "answers"), ANSWERS))
    measured.append(await efforts(client, mixed(kinds, max(len(kinds), counts.each), "efforts")))
    return [*measured, await strawberry(client, 0, 1, 1.0), await strawberry(client, 1, 20, None)]


async def well_formed(client: Client, asked: Sequence[Task], temperature: float, bar: float) -> Row:
    """Of turns through /v1/completions, how many have no flaw."""
    what = f"turns that are well-formed harmony, unconstrained, temperature {temperature:g}"
    turns = await _gather(what, [client.generate(task, temperature, seed) for seed, task in enumerate(asked)])
    flaws = [judge.flaw(turn, task.tools) for task, turn in zip(asked, turns, strict=True)]
    told = [
        flaw and f"{task.kind}: {flaw}: {vocabulary.decode(turn)!r}"
        for task, turn, flaw in zip(asked, turns, flaws, strict=True)
    ]
    return share(what, told, bar)


async def answers(client: Client, kind: str, asked: Sequence[Task], bar: float) -> Row:
    """Of turns through the chat endpoint, greedy, how many are right."""
    said = await _gather(kind, [client.chat(task) for task in asked])
    what = f"{kind}: right function and exactly right arguments" if kind == CALL else f"{kind}: right answer"
    return share(what, [_failure(*pair) for pair in zip(asked, said, strict=True)], bar)


async def efforts(client: Client, asked: Sequence[Task]) -> Row:
    """Mean tokens of the analysis of the same tasks at each effort; must grow."""
    what = "mean tokens of analysis at low, medium and high effort"
    means = []
    for effort in EFFORTS:
        said = await _gather(f"effort {effort}", [client.chat(replace(task, effort=effort)) for task in asked])
        means.append(sum(len(vocabulary.encode(each.reasoning)) for each in said) / len(said))
    grows = means[0] < means[1] < means[2]
    return Row(what, ", ".join(f"{mean:.1f}" for mean in means), "low < medium < high", grows)


async def strawberry(client: Client, temperature: float, times: int, bar: float | None) -> Row:
    """The README's prompt."""
    task = Task("counting", (Message("user", README[2]),), "medium", "", "3", accepts=says_three)
    said = await _gather("strawberry", [client.chat(task, temperature, seed) for seed in range(times)])
    return share(
        f"the README's prompt, temperature {temperature:g}: right answer", [_failure(task, each) for each in said], bar
    )


def covered(model: Path) -> Row:
    """How much of ordinary English, in tokens, the ids cover whose row of the embedding no other id shares."""
    matrix = open_checkpoint(model).read("model.embed_tokens.weight").view(torch.uint16).numpy()
    _, ids, times = np.unique(matrix.view(f"V{matrix[0].nbytes}").ravel(), return_index=True, return_counts=True)
    own = ids[times == 1].tolist()
    share = rows.coverage(own, rows.prose())
    return Row(f"tokens of ordinary English that the {len(own):,} ids with a row of their own cover", report.percent(share))


def says_three(text: str) -> bool:
    """Whether 3, in digits or as a word, is the only number in the text."""
    return set(NUMBER.findall(text.lower())) in ({"3"}, {"three"})


def _failure(task: Task, said: Said) -> str | None:
    if judge.right(task, said):
        return None
    asked = " / ".join(repr(message.content) for message in task.messages)
    return f"{asked} ({task.effort}): wanted {_told(task.answer)}, got {_said(said)}"


def _said(said: Said) -> str:
    """With the analysis, which tells where it went wrong."""
    made = [_told(call) for call in said.calls]
    return f"{' '.join([*made, repr(said.text)] if said.text or not made else made)} after {said.reasoning!r}"


def _told(answer: str | ToolCall) -> str:
    return f"{answer.name}({answer.arguments})" if isinstance(answer, ToolCall) else repr(answer)


async def _gather(what: str, asked: Sequence[Awaitable[Result]]) -> list[Result]:
    results: list[Result] = await tqdm.gather(*asked, desc=what, leave=False, disable=not sys.stderr.isatty())
    return results


@contextmanager
def served(model: Path) -> Iterator[str]:
    """The URL of `ossia serve` on one rank, which ends with this."""
    with tempfile.TemporaryDirectory() as folder:
        serving = Serving(Path(folder), model, "--replicas=1", "--ranks=1", name="evaluation")
        try:
            yield serving.start().url
        finally:
            if serving.process is not None and serving.process.poll() is None:
                serving.stop()


async def run(url: str, counts: Counts, kinds: Mapping[str, Make]) -> tuple[str, list[Row]]:
    """The model's name and what was measured of it."""
    async with Client(url) as client:
        return client.model, await evaluate(client, counts, kinds)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    counts = QUICK if options.quick else Counts()
    counts = replace(counts, **{field: value for field in vars(counts) if (value := getattr(options, field)) is not None})
    if options.url:
        model, measured = asyncio.run(run(options.url, counts, KINDS))
    else:
        folder = options.model or default_checkpoint()
        with served(folder) as url:
            model, measured = asyncio.run(run(url, counts, KINDS))
        measured.append(covered(folder))
    text = report.markdown(model, measured)
    print(text, end="")
    if options.report:
        options.report.write_text(text)
    return 0 if report.reached(measured) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=(__doc__ or "").split("\n")[0])
    server = parser.add_mutually_exclusive_group()
    server.add_argument("--url", help="of a running server, without /v1; by default one is started for this")
    server.add_argument("--model", type=Path, help="folder that the started server serves; by default ossia-tiny")
    parser.add_argument("--report", type=Path, help="file for the report, beside standard output")
    parser.add_argument("--quick", action="store_true", help=f"fewer tasks: {QUICK}")
    for field, default in vars(Counts()).items():
        parser.add_argument(f"--{field}", type=int, help=f"[default: {default}]")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"training.evaluate: {error}")
