"""The batches of every step, in order, made ahead by a process of its own."""

import functools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from ossia.common import vocabulary
from training import mixture
from training.batch import Arrays, Classes, pack

DROPPED = 0.005  # of the tokens shown
AHEAD = 4  # blocks of mixture.STEPS steps
NICE = 5


def stream(seed: int, first: int, steps: int, tokens: int, ids: Sequence[int]) -> Iterator[list[Arrays]]:
    """The batches of the steps from `first` to `steps`, of about `tokens` tokens each."""
    blocks = iter(range(first // mixture.STEPS, -(-steps // mixture.STEPS)))
    with ProcessPoolExecutor(1, get_context("spawn"), os.nice, (NICE,)) as worker:
        made: deque[Future[list[list[Arrays]]]] = deque()
        skipped = first % mixture.STEPS
        while True:
            while len(made) < AHEAD and (block := next(blocks, None)) is not None:
                made.append(worker.submit(_make, seed, block, block * mixture.STEPS / steps, tokens, tuple(ids)))
            if not made:
                return
            yield from made.popleft().result()[skipped:]
            skipped = 0


def _make(seed: int, block: int, progress: float, tokens: int, ids: tuple[int, ...]) -> list[list[Arrays]]:
    random = np.random.default_rng([seed, block])
    made = mixture.steps(seed, block, progress, ids, tokens)
    return [[pack(samples, _classes(ids), DROPPED, random) for samples in batches] for batches in made]


@functools.cache
def _classes(ids: tuple[int, ...]) -> Classes:
    return Classes(ids, vocabulary.SIZE)
