"""Every step that is taught is true, small, and the same few tokens."""

import random
import re
import statistics

import pytest

from ossia.common import vocabulary
from router.harmony.types import Effort
from training.kinds import arithmetic
from training.sample import sample
from training.task import EFFORTS, Split, Task

SPLITS: tuple[Split, ...] = ("train", "held-out")
CHAIN = re.compile(r"[\d+*-]+(?:=[\d+*-]+)+")


def tasks(split: Split, effort: Effort, number: int = 300) -> list[Task]:
    rng = random.Random(f"{split} {effort}")
    return [arithmetic.KINDS["arithmetic"](rng, split, effort) for _ in range(number)]


def value(expression: str) -> int:
    """Of `80+5-30-8` or `7*7+7`."""
    total = 0
    for sign, factors in re.findall(r"([+-]?)(\d+(?:\*\d+)*)", expression):
        product = 1
        for factor in factors.split("*"):
            product *= int(factor)
        total += -product if sign == "-" else product
    return total


def asked(task: Task) -> str:
    """The numbers and signs of the answer, in front of its result."""
    assert isinstance(task.answer, str)
    return task.answer.split(" = ")[0]


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("split", SPLITS)
def test_every_equation_of_the_analysis_is_true_and_the_first_ends_in_the_answer(split: Split, effort: Effort) -> None:
    for task in tasks(split, effort):
        assert isinstance(task.answer, str) and task.accepts is not None
        chains = CHAIN.findall(task.analysis)
        assert len(chains) == (2 if effort == "high" else 1)
        for chain in chains:
            assert len({value(side) for side in chain.split("=")}) == 1, chain
        first = chains[0].split("=")
        assert task.answer == f"{' '.join(re.findall(r'[0-9]+|[+*-]', first[0]))} = {first[-1]}."
        assert task.accepts(task.answer) and task.accepts(first[-1]) and not task.accepts(f"{task.answer} Or 1000?")


def test_the_question_has_the_numbers_of_the_answer() -> None:
    for split in SPLITS:
        for task in tasks(split, "low"):
            in_question = sorted(re.findall(r"\d+", task.messages[0].content))
            assert in_question == sorted(re.findall(r"\d+", asked(task))), task


def test_sums_and_differences_are_taken_apart_digit_by_digit() -> None:
    for sign, numbers, expected in (
        ("+", (47, 38), "47+38=40+7+30+8=70+15=85."),
        ("-", (85, 38), "85-38=80+5-30-8=50-3=47."),
        ("-", (47, 8), "47-8=40+7-0-8=40-1=39."),
        ("+", (7, 8), "7+8=15."),
        ("*", (7, 8), "7*8=56."),
        ("+", (3, 4, 5), "3+4+5=7+5=12."),
    ):
        assert arithmetic._analysis(sign, numbers, "low") == expected
        tokens = [vocabulary.decode([token]) for token in vocabulary.encode(expected)]
        assert tokens == re.findall(r"\d+|\D", expected)  # each number and each sign is one token


def test_no_result_is_negative_or_beyond_one_token() -> None:
    for effort in EFFORTS:
        for task in tasks("train", effort):
            assert all(0 <= int(number) < 1000 for number in re.findall(r"\d+", task.analysis))
            assert isinstance(task.answer, str) and "= -" not in task.answer


def test_nothing_held_out_is_worked_out_in_training() -> None:
    for effort in EFFORTS:
        for task in tasks("train", effort, 1500):
            for chain in CHAIN.findall(task.analysis):
                numbers = tuple(map(int, re.findall(r"\d+", first := chain.split("=")[0])))
                sign = first.strip("0123456789")[0]
                assert not arithmetic.is_held_out("+ +" if len(numbers) > 2 else sign, numbers), task


def test_splits_share_no_operands_and_no_phrasing() -> None:
    train = {asked(task) for effort in EFFORTS for task in tasks("train", effort, 1500)}
    held_out = {asked(task) for effort in EFFORTS for task in tasks("held-out", effort, 1500)}
    assert len(train) > 1000 and len(held_out) > 300
    assert not train & held_out


def test_no_product_is_held_out_in_both_orders() -> None:
    factors = range(arithmetic.LARGEST_FACTOR + 1)
    unseen = [(a, b) for a in factors for b in factors if arithmetic.is_held_out("*", (a, b))]
    assert len(unseen) > 10
    assert not any((b, a) in unseen for a, b in unseen)


def test_more_effort_thinks_longer_and_nothing_is_long() -> None:
    lengths = []
    for effort in EFFORTS:
        made = tasks("train", effort)
        lengths.append(statistics.mean(len(vocabulary.encode(task.analysis)) for task in made))
        assert max(len(sample(task).tokens) for task in made) < 220
    assert lengths[1] >= 1.4 * lengths[0] and lengths[2] >= 1.4 * lengths[1]


def test_a_task_is_a_function_of_its_generator() -> None:
    assert [task.messages for task in tasks("train", "low")] == [task.messages for task in tasks("train", "low")]
