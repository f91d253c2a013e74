"""Lists are said again and reversed truly, in steps that copy, and no list is in both splits."""

import random
import re
import statistics

import pytest

from ossia.common import vocabulary
from router.harmony.types import Effort
from training.kinds import lists
from training.sample import sample
from training.task import EFFORTS, Split, Task

SPLITS: tuple[Split, ...] = ("train", "held-out")


def tasks(kind: str, split: Split, effort: Effort, number: int = 300) -> list[Task]:
    rng = random.Random(f"{split} {effort}")
    return [lists.KINDS[kind](rng, split, effort) for _ in range(number)]


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("split", SPLITS)
def test_a_list_is_repeated_as_it_was(split: Split, effort: Effort) -> None:
    for task in tasks("repeat", split, effort):
        assert isinstance(task.answer, str) and task.accepts is not None
        assert task.answer in task.messages[0].content and 2 <= len(re.split(r",? ", task.answer)) <= lists.LONGEST_REPEAT
        assert task.analysis.count(task.answer) == EFFORTS.index(effort)
        assert task.accepts(task.answer) and task.accepts(f"{task.answer}.") and not task.accepts(f"{task.answer}, x")


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("split", SPLITS)
def test_a_list_is_reversed_letter_by_letter(split: Split, effort: Effort) -> None:
    for task in tasks("reverse", split, effort):
        assert isinstance(task.answer, str) and task.accepts is not None
        items = task.answer.split(", ")[::-1]
        assert ", ".join(items) in task.messages[0].content and 2 <= len(set(items)) == len(items) <= lists.LONGEST_REVERSE
        there = re.findall(r"List: ([^.]*)\.", task.analysis)
        back = re.findall(r"Back: ([^.]*)\.", task.analysis)
        assert len(there) == len(back) == (2 if effort == "high" else 1)
        for first, last in zip(there, back, strict=True):
            assert first.split(", ") == [f"{letter} {item}" for letter, item in zip("ABCDE", items, strict=False)]
            assert last == " ".join(reversed(first.split(", ")))
        assert task.accepts(task.answer) and not task.accepts(", ".join(items))


def test_an_item_is_the_same_tokens_wherever_it_is_copied_to() -> None:
    for task in tasks("reverse", "train", "low"):
        assert isinstance(task.answer, str)
        analysis = vocabulary.encode(task.analysis)
        for item in task.answer.split(", "):
            spaced = vocabulary.encode(f" {item}")
            for text in (vocabulary.encode(f"x {item},")[1:-1], vocabulary.encode(f"B {item} A")[1:-1]):
                assert text == spaced
            assert sum(analysis[at : at + len(spaced)] == spaced for at in range(len(analysis))) >= 2


@pytest.mark.parametrize("kind", lists.KINDS)
def test_splits_share_no_list(kind: str) -> None:
    train = {task.answer for effort in EFFORTS for task in tasks(kind, "train", effort, 1500)}
    held_out = {task.answer for effort in EFFORTS for task in tasks(kind, "held-out", effort)}
    assert len(train) > 1000 and len(held_out) > 200 and not train & held_out


@pytest.mark.parametrize("kind", lists.KINDS)
def test_more_effort_thinks_longer_and_nothing_is_long(kind: str) -> None:
    lengths = []
    for effort in EFFORTS:
        made = tasks(kind, "train", effort)
        lengths.append(statistics.mean(len(vocabulary.encode(task.analysis)) for task in made))
        assert max(len(sample(task).tokens) for task in made) < 220
    assert lengths[1] >= 1.4 * lengths[0] and lengths[2] >= 1.4 * lengths[1]


@pytest.mark.parametrize("kind", lists.KINDS)
def test_a_task_is_a_function_of_its_generator(kind: str) -> None:
    assert [task.messages for task in tasks(kind, "train", "low")] == [task.messages for task in tasks(kind, "train", "low")]
