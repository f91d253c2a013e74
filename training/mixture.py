"""What is shown in which step: a stream of batches that depends on the seed and the step alone."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from ossia.common import vocabulary
from router.harmony.types import Effort, Message
from training.drills import drill
from training.kinds import KINDS
from training.kinds.talk import RULES
from training.kinds.tools import COUNTS, OFFERED, offer
from training.loops import SHARE, looped
from training.sample import Sample, sample
from training.task import EFFORTS, Task

STEPS = 4  # that are drawn together, so that the samples of a batch can be of like length
ROUGH = 3  # batches that are drawn together of one declaration, of which one is kept
BATCHES = 4  # in a step, each with a system message of its own

LAST = 1 / 6
"""The share of the run, at its end, in which it is shown again what is hardest: copying, and no drills."""


@dataclass(frozen=True)
class Shares:
    """How often what is shown."""

    plain: Mapping[str, int]  # each kind where no functions are declared, what is harder to learn more often
    with_functions: Mapping[str, int]  # batches of each kind where some are; what is declared is the same for all of a batch
    functions: float  # the share of batches in which functions are declared


FIRST = Shares(
    {
        "arithmetic": 18,
        "counting": 12,
        "repeat": 6,
        "reverse": 9,
        "small talk": 6,
        "identity": 5,
        "unknown": 5,
        "memory": 9,
        "persona": 9,
        "greeting": 5,
        "forbidden word": 20,
        "json": 30,
    },
    {"call": 64, "tool answer": 20, "no tool": 16},
    0.5,
)
HARDEST = Shares(
    {**FIRST.plain, "repeat": 12, "reverse": 18, "memory": 12}, {"call": 80, "tool answer": 12, "no tool": 8}, 0.65
)
"""Of the last part."""
EFFORT_SHARES = (45, 30, 25)
"""Of low, medium and high: what is hard of a task is in the shortest analysis."""
EARLIER = ("small talk", "identity", "arithmetic", "unknown", "repeat")
"""Kinds of which an earlier turn may be."""
EARLIER_SHARE = 0.1
RULED = ("arithmetic", "counting", "repeat", "reverse")
"""Kinds that stay the same under a developer message that asks for nothing in particular."""
RULED_SHARE = 0.15
DATED_SHARE = 0.6
FIRST_DAY, DAYS = date(2024, 1, 1), 5000


def drills(progress: float) -> float:
    """The share of drills: most at first, then fewer and fewer, none in the last part."""
    return max(0.06, 0.6 - 9.6 * progress) if progress < 1 - LAST else 0.0


def steps(seed: int, block: int, progress: float, ids: Sequence[int], tokens: int) -> list[list[list[Sample]]]:
    """`STEPS` steps of `BATCHES` batches of samples; a batch has about `tokens` tokens behind its shared prefix.

    `ids` have rows of their own. All samples of a batch begin with the same `prefix` tokens, and are of like length.
    """
    rng = random.Random(f"{seed}/{block}")
    columns = [_batches(rng, progress, ids, tokens) for _ in range(BATCHES)]
    return [list(row) for row in zip(*columns, strict=True)]


def _batches(rng: random.Random, progress: float, ids: Sequence[int], tokens: int) -> list[list[Sample]]:
    """`STEPS` batches with one system message."""
    if rng.random() < drills(progress):
        return _cut(rng, _fill(lambda: drill(rng, ids), STEPS * tokens), STEPS)
    effort = rng.choices(EFFORTS, EFFORT_SHARES)[0]
    today = FIRST_DAY + timedelta(days=rng.randrange(DAYS)) if rng.random() < DATED_SHARE else None
    shares = FIRST if progress < 1 - LAST else HARDEST
    if rng.random() < shares.functions:
        return [_with_functions(rng, shares.with_functions, effort, today, tokens) for _ in range(STEPS)]
    kinds, weights = list(shares.plain), list(shares.plain.values())

    def make() -> Sample:
        return _perhaps_looped(rng, sample(_task(rng, rng.choices(kinds, weights)[0], effort), today))

    return _cut(rng, _fill(make, STEPS * tokens), STEPS)


def _with_functions(
    rng: random.Random, shares: Mapping[str, int], effort: Effort, today: date | None, tokens: int
) -> list[Sample]:
    """A batch of one kind under one developer message, the tokens of which are computed once."""
    ruled = (Message("developer", rng.choice(RULES)),) if rng.random() < RULED_SHARE else ()
    kind = rng.choices(list(shares), list(shares.values()))[0]
    offered = offer(rng, "train", rng.choice(COUNTS[kind]))

    def make() -> Sample:
        task = _perhaps_later(rng, OFFERED[kind](rng, "train", effort, offered))
        said = tuple(message for message in task.messages if message.role != "developer")
        made = _perhaps_looped(rng, sample(replace(task, messages=ruled + said), today))
        return replace(made, prefix=made.tokens.index(vocabulary.END, made.prefix) + 1)

    return _cut(rng, _fill(make, ROUGH * tokens), ROUGH)[0]


def _fill(make: Callable[[], Sample], room: int) -> list[Sample]:
    """Samples of about so many tokens behind their prefix."""
    samples: list[Sample] = []
    while room > 0:
        samples.append(make())
        room -= len(samples[-1].tokens) - samples[-1].prefix
    return samples


def _cut(rng: random.Random, samples: list[Sample], count: int) -> list[list[Sample]]:
    """Batches of about as many tokens each, of like length within, in any order."""
    samples = sorted(samples, key=lambda each: len(each.tokens))
    total = sum(len(each.tokens) for each in samples)
    batches: list[list[Sample]] = [[] for _ in range(count)]
    seen = 0
    for each in samples:
        batches[min(count - 1, seen * count // total)].append(each)
        seen += len(each.tokens)
    rng.shuffle(batches)
    return batches


def _task(rng: random.Random, kind: str, effort: Effort) -> Task:
    task = KINDS[kind](rng, "train", effort)
    if kind in RULED and rng.random() < RULED_SHARE:
        task = replace(task, messages=(Message("developer", rng.choice(RULES)), *task.messages))
    return _perhaps_later(rng, task)


def _perhaps_looped(rng: random.Random, made: Sample) -> Sample:
    return looped(rng, made) if rng.random() < SHARE else made


def _perhaps_later(rng: random.Random, task: Task) -> Task:
    return _after_another(rng, task) if rng.random() < EARLIER_SHARE else task


def _after_another(rng: random.Random, task: Task) -> Task:
    """The task behind a turn about something else."""
    earlier = KINDS[rng.choice(EARLIER)](rng, "train", task.effort)
    assert isinstance(earlier.answer, str)
    head = [message for message in task.messages if message.role in ("system", "developer")]
    turn = [*earlier.messages, Message("assistant", earlier.answer)]
    return replace(task, messages=(*head, *turn, *task.messages[len(head) :]))
