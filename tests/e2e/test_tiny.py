"""The embedded model: what its users see of it, and that it computes the same however it is cut."""

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import openai
import pytest

from benchmarks import schemas
from cluster.make_checkpoint import default_checkpoint
from ossia.common import vocabulary
from router.harmony.types import ToolCall
from tests.e2e.oracle import Oracle, load
from tests.e2e.processes import GatewayProcess, ShardGang
from tests.e2e.serving import Serving
from training import client as api
from training import evaluate, judge
from training.judge import Said
from training.kinds import KINDS
from training.kinds.counting import README
from training.sample import prompt
from training.task import EFFORTS, Task
from workers.model.layout import Layout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
LAYOUTS = [Layout(1), Layout(2, "ep"), Layout(2, "tp"), Layout(4, "ep"), Layout(4, "tp")]
TASKS = [
    replace(task, effort=EFFORTS[place % len(EFFORTS)])
    for place, task in enumerate(evaluate.mixed(KINDS, len(KINDS), "layouts"))
]
MOST = 200  # tokens of a turn


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def expanded(folder: Path) -> Path:
    """The default checkpoint, in the cache that `Serving(folder, ...)` uses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return default_checkpoint()


@pytest.fixture(scope="module")
def greedy(expanded: Path) -> list[list[int]]:
    """The turn of each of TASKS, by transformers."""
    oracle: Oracle = load(expanded)
    return [oracle(prompt(task, None), MOST) for task in TASKS]


@pytest.fixture(scope="module")
def url(folder: Path, expanded: Path) -> Iterator[str]:
    """`ossia serve` as a user starts it, without a model."""
    running = Serving(folder, None, "--replicas=1", "--ranks=1", name="tiny").start()
    yield running.url
    assert running.stop() == 0


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=120)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.ranks}-{layout.experts}")
def test_every_layout_answers_as_transformers(layout: Layout, expanded: Path, greedy: list[list[int]], tmp_path: Path) -> None:
    with ShardGang(tmp_path, expanded, layout) as gang, GatewayProcess(tmp_path, gang.address) as gateway:
        client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused")

        def turn(task: Task) -> list[int]:
            answer = client.completions.create(
                model=expanded.name,
                prompt=prompt(task, None),
                max_tokens=MOST,
                temperature=0,
                extra_body={"return_token_ids": True},
            )
            return list(getattr(answer.choices[0], "token_ids"))  # noqa: B009 (an extension the client does not type)

        with ThreadPoolExecutor(len(TASKS)) as pool:
            assert list(pool.map(turn, TASKS)) == greedy


def test_turns_are_harmony(greedy: list[list[int]]) -> None:
    """So that equal answers above are no equal noise."""
    flaws = [judge.flaw(turn, task.tools) for task, turn in zip(TASKS, greedy, strict=True)]
    assert flaws == [None] * len(TASKS)
    assert {turn[-1] for turn in greedy} == {vocabulary.RETURN, vocabulary.CALL}


def test_eight_ranks_are_refused(folder: Path, expanded: Path) -> None:
    result = Serving(folder, None).run("serve", "--replicas=1", "--ranks=8", "--name=eight")
    assert result.returncode == 2
    assert "4 key-value heads do not divide by 8 ranks" in result.stderr


def test_the_readme_prompt(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=client.models.list().data[0].id,
        messages=[{"role": "user", "content": README[2]}],
        max_completion_tokens=100,
        temperature=0,
        stream=True,
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert evaluate.says_three(text), text


def test_the_readme_has_that_prompt() -> None:
    assert README[2] in (Path(__file__).parents[2] / "README.md").read_text()


def test_a_tool_loop(client: openai.OpenAI) -> None:
    """Calls of functions never seen, their results, and answers that say them: most of the loops end right."""
    tasks = evaluate.tasks(KINDS, "tool answer", 10, "loop")
    with ThreadPoolExecutor(len(tasks)) as pool:
        right = list(pool.map(functools.partial(loop, client), tasks))
    assert sum(right) > len(right) / 2, right


def loop(client: openai.OpenAI, task: Task) -> bool:
    """Whether the model makes the call that led to the task's last message, and answers right from that."""
    *asked, _, result = task.messages
    (expected,) = task.messages[-2].tool_calls
    body: dict[str, Any] = {"messages": [api.message(message) for message in asked], "tools": api.tools(task)}

    def turn() -> Any:
        model = client.models.list().data[0].id
        return client.chat.completions.create(model=model, temperature=0, reasoning_effort=task.effort, **body).choices[0]

    calling = turn()
    if calling.finish_reason != "tool_calls":
        return False
    (call,) = calling.message.tool_calls
    answers = {"role": "tool", "tool_call_id": call.id, "content": result.content}
    body["messages"] += [calling.message.model_dump(exclude_none=True), answers]
    answer = turn()
    made = ToolCall(call.id, call.function.name, call.function.arguments)
    right = judge.right(task, Said(answer.message.content or "", finished=answer.finish_reason == "stop"))
    return judge.same_call(expected, made) and right


async def test_effort_lengthens_the_analysis(url: str) -> None:
    async with api.Client(url) as client:
        row = await evaluate.efforts(client, TASKS)
    assert row.passed, row.measured


async def test_answers_keep_to_their_schemas(url: str) -> None:
    """At temperature 1, whatever ends satisfies its schema, and what is cut is its beginning.

    A sixth of them, of those that bound their texts, of others, and of those to be refused, since all of them take minutes:
    `python -m benchmarks.schemas` asks for all, and docs/grammars.md has what came of it.
    """
    counts = await schemas.run(f"{url}/v1", islice(schemas.questions(1), 0, None, 6))
    assert schemas.passed(counts, bounded=False), counts
    assert counts["bounded, stop"] + counts["open, stop"] > 12, counts
    assert counts["refused, refused"] > 6, counts
