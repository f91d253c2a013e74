"""Tasks of a kind, and what holds for those of every kind."""

import random
import re
from itertools import pairwise
from statistics import mean

from ossia.common import vocabulary
from router.harmony.types import Effort
from training.sample import sample
from training.task import EFFORTS, Make, Split, Task

MANY = 200
LONGEST = 260
"""Tokens of a whole conversation; time is tokens."""


def tasks(make: Make, split: Split = "train", effort: Effort = "low", count: int = MANY) -> list[Task]:
    rng = random.Random(f"{split}/{effort}")
    return [make(rng, split, effort) for _ in range(count)]


def texts(task: Task, role: str = "user") -> str:
    return "\n".join(message.content for message in task.messages if message.role == role)


def check(make: Make, longest: int = LONGEST) -> None:
    """The same state gives the same task; more effort more thought; the taught answer is right; nothing is left to fill in."""
    thoughts = []
    for effort in EFFORTS:
        made = tasks(make, effort=effort)
        assert [as_text(task) for task in made] == [as_text(task) for task in tasks(make, effort=effort)]
        assert all(task.accepts(answer(task)) for task in made if task.accepts)
        assert not any(re.search(r"{[a-z]+}", as_text(task)) for task in made)
        assert max(len(sample(task).tokens) for task in made) < longest
        thoughts.append(mean(len(vocabulary.encode(task.analysis)) for task in made))
    assert all(more >= 1.4 * less for less, more in pairwise(thoughts)), thoughts


def as_text(task: Task) -> str:
    return "\n".join((*(message.content for message in task.messages), task.analysis, answer(task)))


def answer(task: Task) -> str:
    assert isinstance(task.answer, str)
    return task.answer
