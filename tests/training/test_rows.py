"""Which ids have rows of their own: all that words and drills need, none that is foreign, the same ones each time."""

import random

import pytest

from ossia.common import vocabulary
from training import drills, rows, words
from training.kinds import KINDS
from training.sample import sample
from training.task import Task


@pytest.fixture(scope="module")
def ids() -> tuple[int, ...]:
    """Of a few samples of each kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "STALE", 5)
        first = rows.distinct()
        assert rows.distinct() == first, "the ids depend on more than the program"
    return first


def test_they_ascend_and_are_as_many_as_wanted(ids: tuple[int, ...]) -> None:
    assert list(ids) == sorted(set(ids))
    assert rows.COUNT <= len(ids) < rows.COUNT + 1500


def test_invented_words_have_rows_wherever_they_stand(ids: tuple[int, ...]) -> None:
    rng = random.Random(1)
    for _ in range(200):
        name, noun, function = words.name(rng, "held-out"), words.noun(rng, "held-out"), words.function(rng, "held-out")
        text = f'{name} "{name}" {noun} "{noun}" {words.common(rng)} {function} functions.{function}'
        assert rows.coverage(ids, text) == 1, text


def test_drills_have_rows(ids: tuple[int, ...]) -> None:
    rng = random.Random(2)
    assert {token for _ in range(200) for token in drills.drill(rng, ids).tokens} <= set(ids)


def test_foreign_text_has_none(ids: tuple[int, ...]) -> None:
    rng = random.Random(3)
    own = [token for _ in range(200) for token in vocabulary.encode(words.foreign(rng)) if token in ids]
    assert own == []
    assert rows.coverage(ids, "привет") == 0


def test_tasks_and_the_template_have_rows(ids: tuple[int, ...]) -> None:
    for make in KINDS.values():
        task: Task = make(random.Random(4), "train", "low")
        tokens = sample(task).tokens
        assert sum(token in ids for token in tokens) > 0.9 * len(tokens)


def test_prose_is_english_and_mostly_covered(ids: tuple[int, ...]) -> None:
    prose = rows.prose()
    assert len(prose) > 10_000 and " the " in prose and "\n    " not in prose
    assert 0.5 < rows.coverage(ids, prose) < 1
