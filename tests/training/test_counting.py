"""Spellings and counts are true, their tokens are letters and digits, and no held-out pair is trained."""

import random
import re
import statistics
from string import ascii_lowercase

import pytest

from ossia.common import vocabulary
from router.harmony.types import Effort
from training.kinds import counting
from training.sample import sample
from training.task import EFFORTS, Split, Task

SPLITS: tuple[Split, ...] = ("train", "held-out")
ANSWER = re.compile(r"The letter ([a-z]) occurs (\d+) (times?) in ([a-z]+)\.")
COUNTED = re.compile(r"(?:Count|Check) ([a-z])(?: in ([a-z]+))?: ((?:[a-z]\d ?)+)\.")
SPELLED = re.compile(r"\b(?:[a-z] )+[a-z](?=\.)")


def tasks(split: Split, effort: Effort, number: int = 300) -> list[Task]:
    rng = random.Random(f"{split} {effort}")
    return [counting.KINDS["counting"](rng, split, effort) for _ in range(number)]


def counted(task: Task) -> tuple[str, str, int] | None:
    """Word, letter and count; None where the spelling is asked for."""
    assert isinstance(task.answer, str)
    match = ANSWER.fullmatch(task.answer)
    return (match[4], match[1], int(match[2])) if match else None


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("split", SPLITS)
def test_counts_are_true_behind_every_letter(split: Split, effort: Effort) -> None:
    for task in tasks(split, effort):
        if (pair := counted(task)) is None:
            continue
        word, letter, found = pair
        assert found == word.count(letter) and isinstance(task.answer, str) and task.accepts is not None
        assert task.accepts(task.answer) and task.accepts(f"{found}") and not task.accepts(f"{found + 1}")
        assert word in task.messages[0].content and letter in task.messages[0].content
        passes = COUNTED.findall(task.analysis)
        assert len(passes) == (2 if effort == "high" else 1)
        for asked, where, steps in passes:
            assert asked == letter and where in (word, "")
            assert "".join(re.findall("[a-z]", steps)) == word
            assert [int(n) for n in re.findall(r"\d", steps)] == [word[:end].count(letter) for end in range(1, len(word) + 1)]


@pytest.mark.parametrize("effort", EFFORTS)
def test_spellings_are_true(effort: Effort) -> None:
    seen = 0
    for split in SPLITS:
        for task in tasks(split, effort):
            assert isinstance(task.answer, str)
            if (pair := counted(task)) is not None:
                word = pair[0]
            else:
                word = task.answer.split()[3]
                assert task.answer == f"The letters of {word} are {' '.join(word)}." and word in task.messages[0].content
                seen += 1
            assert {spelled.replace(" ", "") for spelled in SPELLED.findall(task.analysis)} <= {word}
    assert seen > 20


def test_the_first_prompt_of_the_readme_is_trained() -> None:
    asked = [task for task in tasks("train", "medium", 1000) if task.messages[0].content == counting.README[2]]
    assert asked and all(task.answer == "The letter r occurs 3 times in strawberry." for task in asked)
    assert not counting.is_held_out("strawberry", "r")


def test_every_word_is_spelled_in_training_and_every_letter_counted() -> None:
    for word in counting.WORDS:
        assert any(not counting.is_held_out(word, letter) for letter in set(word))
    for letter in ascii_lowercase:
        assert any(not counting.is_held_out(word, letter) for word in counting.WORDS if letter in word)
    assert len(set(counting.WORDS)) == len(counting.WORDS) >= 250


def test_splits_share_no_pair_of_word_and_letter() -> None:
    train = {counted(task) for effort in EFFORTS for task in tasks("train", effort, 2000)}
    held_out = {counted(task) for effort in EFFORTS for task in tasks("held-out", effort, 500)}
    assert train & held_out == {None}  # spellings differ in how they are asked for
    assert any(pair and pair[2] == 0 for pair in held_out) and any(pair and pair[2] > 1 for pair in held_out)


def test_words_and_letters_are_few_tokens() -> None:
    long = [word for word in counting.WORDS if len(vocabulary.encode(f" {word}")) > 1]
    assert set(long) <= {"bookkeeper", "mississippi"}
    pieces = [vocabulary.decode([token]) for token in vocabulary.encode("Count r in strawberry: s0 t0 r1.")]
    assert pieces == ["Count", " r", " in", " strawberry", ":", " s", "0", " t", "0", " r", "1", "."]
    assert all(len(vocabulary.encode(f" {letter}")) == 1 for letter in ascii_lowercase)


def test_more_effort_thinks_longer_and_nothing_is_long() -> None:
    lengths = []
    for effort in EFFORTS:
        made = tasks("train", effort)
        lengths.append(statistics.mean(len(vocabulary.encode(task.analysis)) for task in made))
        assert max(len(sample(task).tokens) for task in made) < 220
    assert lengths[1] >= 1.4 * lengths[0] and lengths[2] >= 1.4 * lengths[1]


def test_a_task_is_a_function_of_its_generator() -> None:
    assert [task.messages for task in tasks("train", "low")] == [task.messages for task in tasks("train", "low")]
