import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace

import jsonschema
import pytest

from ossia.common import vocabulary
from router.harmony.types import Effort, Tool, ToolCall
from training.kinds.declarations import _FIRST, _LAST, _PLACE, function
from training.kinds.families import ACTIONS, OTHER_WORDS, QUESTIONS, VALUES
from training.kinds.tools import KINDS
from training.sample import sample
from training.split import held_out
from training.task import EFFORTS, Split, Task

MANY = 200


def tasks(kind: str, split: Split = "train", effort: Effort = "low", count: int = MANY) -> Iterator[Task]:
    rng = random.Random(f"{kind}/{split}/{effort}")
    return (KINDS[kind](rng, split, effort) for _ in range(count))


def called(task: Task) -> ToolCall:
    """The call that is taught, or was made before the answer."""
    return task.answer if isinstance(task.answer, ToolCall) else task.messages[1].tool_calls[0]


def declared(task: Task) -> Tool:
    return next(tool for tool in task.tools if tool.name == called(task).name)


def schema(tool: Tool) -> dict:
    assert tool.parameters is not None
    return dict(tool.parameters)


@pytest.mark.parametrize("kind", ["call", "tool answer"])
@pytest.mark.parametrize("split", ["train", "held-out"])
def test_a_call_is_of_a_declared_function_and_fits_its_schema(kind: str, split: Split) -> None:
    for task in tasks(kind, split):
        parameters = schema(declared(task))
        arguments = json.loads(called(task).arguments)
        jsonschema.validate(arguments, parameters | {"additionalProperties": False})
        assert list(arguments) == [name for name in parameters["properties"] if name in arguments], "declared order"
        assert called(task).arguments == json.dumps(arguments, separators=(",", ":"))


def test_every_argument_is_what_the_user_said() -> None:
    for task in tasks("call"):
        said = task.messages[-1].content
        for value in json.loads(called(task).arguments).values():
            assert re.search(rf"\b{re.escape(str(value))}\b", said), (value, said)


def test_only_the_called_function_has_the_topic_of_the_message() -> None:
    for task in tasks("call"):
        for tool in task.tools:
            topics = [word for word in tool.name.split("_")[1:] if f" the {word} " in f" {task.messages[-1].content} "]
            assert not topics or tool.name == called(task).name


def test_one_to_three_functions_are_declared_and_the_right_one_stands_anywhere() -> None:
    places = [(len(task.tools), [tool.name for tool in task.tools].index(called(task).name)) for task in tasks("call")]
    assert {place: places.count(place) > MANY // 25 for place in set(places)} == dict.fromkeys(
        [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)], True
    )


def test_names_and_values_of_one_split_are_never_in_the_other() -> None:
    seen: dict[Split, tuple[set, set, set]] = {}
    for split in ("train", "held-out"):
        rngs = [random.Random(f"{split}/{seed}") for seed in range(1500)]
        made = [function(rng, split).request(rng) for rng in rngs]
        names = {name for each in made for name in schema(each.function.tool)["properties"]}
        values = {value for each in made for value in each.arguments.values()}
        seen[split] = {each.function.tool.name for each in made}, names, values
    for trained, kept in zip(seen["train"], seen["held-out"], strict=True):
        assert len(kept) > 100
        assert not trained & kept


def test_every_argument_of_a_family_has_a_name_in_each_split() -> None:
    for what in (*QUESTIONS, *ACTIONS):
        assert set(_PLACE.findall(what)) <= set(VALUES)
    for word in {*VALUES, *(other for others in OTHER_WORDS.values() for other in others)}:
        kept = [held_out(first + word + last) for first in _FIRST for last in _LAST]
        assert any(kept) and not all(kept), word


def test_a_topic_and_names_keep_their_tokens_from_the_message_to_the_call() -> None:
    encode = vocabulary.encode
    for task in tasks("call"):
        call = called(task)
        name = encode(f" {call.name}")
        assert encode(f"Use {call.name}\n")[1 : 1 + len(name)] == name, "as it is declared"
        assert encode(f"functions.{call.name}")[2:] == name[1:]
        for key, value in json.loads(call.arguments).items():
            assert encode(f"\n{key}: {value}\n")[1:-1] == encode(key) + encode(f": {value}")
            assert encode(f" {value}")[1:] == encode(f'{{"a":"{value}"')[3:-1][1 if isinstance(value, str) else 0 :]


@pytest.mark.parametrize("kind", KINDS)
def test_more_effort_thinks_longer(kind: str) -> None:
    low, medium, high = (
        sum(len(vocabulary.encode(task.analysis)) for task in tasks(kind, effort=effort)) / MANY for effort in EFFORTS
    )
    assert medium >= 1.4 * low
    assert high >= 1.4 * medium


def test_an_answer_states_the_result_and_the_function_was_called_for_it() -> None:
    for task in tasks("tool answer"):
        assert isinstance(task.answer, str)
        result = task.answer.removesuffix(".").rsplit(" is ", 1)[1]
        assert result in re.split(r'[{",:}]+', task.messages[-1].content)
        assert task.messages[-1].tool_call_id == called(task).id


def test_without_a_fitting_function_the_answer_is_said_at_once() -> None:
    answers = {task.answer for task in tasks("no tool") if isinstance(task.answer, str) and task.tools}
    assert len(answers) > 30
    assert all(task.kind == "no tool" and not isinstance(task.answer, ToolCall) for task in tasks("no tool"))


def test_samples_are_short_and_read_as_gpt_oss_would_write_them() -> None:
    lengths = [len(sample(task).tokens) for effort in EFFORTS for task in tasks("call", effort=effort)]
    assert sum(lengths) / len(lengths) < 240
    task = next(tasks("call"))
    assert isinstance(task.answer, ToolCall)
    text = vocabulary.decode(sample(task).tokens)
    assert text.endswith(
        f"<|start|>assistant<|channel|>analysis<|message|>{task.analysis}<|end|><|start|>assistant<|channel|>commentary"
        f" to=functions.{task.answer.name} <|constrain|>json<|message|>{task.answer.arguments}<|call|>"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_depends_on_its_generator_alone(kind: str) -> None:
    first, again = ([replace(task, accepts=None) for task in tasks(kind, count=20)] for _ in range(2))
    assert first == again
