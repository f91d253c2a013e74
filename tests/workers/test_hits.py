"""Deterministic mode, on the torch runner: whatever is cached holds, to the bit, what would be computed from its tokens alone.

Random loads in a cache that they do not fit: prompts that begin alike, kept windows, eviction, preemption, drafts.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.workers import driver
from tests.workers.tiny import TINY, write
from workers.engine.limits import Limits
from workers.engine.report import KvEvents, Report
from workers.engine.request import Request
from workers.engine.sampling import Sampling
from workers.engine.stepper import Stepper
from workers.model.layout import Layout
from workers.runner.build import build
from workers.runner.runner import TorchRunner
from workers.runner.spec import RunnerSpec

BLOCK, TURN = 8, 7
NARROW = tuple((token, 100.0) for token in (20, 21, 22))  # output that repeats itself
LIMITS = Limits(
    vocab_size=TINY.vocab_size,
    stop_token_ids=frozenset(TINY.stop_token_ids),
    max_context=160,
    block_size=BLOCK,
    kv_blocks=22,
    sliding_blocks=26,
    window=24,
    max_sequences=5,
    token_budget=40,
    turn_token_id=TURN,
    draft_sequences=5,
)
Group = dict[bytes, list[Tensor]]  # keys and values of a block, layer after layer, by the block's name


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TorchRunner:
    path: Path = write(tmp_path_factory.mktemp("hits"), replace(TINY, sliding_window=LIMITS.window))
    return build(
        RunnerSpec(str(path), Layout(), request.param, 8 << 20, max_context=160, block_size=BLOCK, deterministic=True), 0, None
    )


def block(runner: TorchRunner, number: int, sliding: bool) -> list[Tensor]:
    """What the block of that number holds in the layers of its group."""
    layers = [tensors for layer, tensors in enumerate(runner._cache.layers) if runner.config.is_sliding(layer) == sliding]
    return [tensor[:, number].clone() for tensors in layers for tensor in tensors]


class Seen:
    """All blocks that were ever cached, as they were when they were stored, and what became of the requests."""

    def __init__(self, runner: TorchRunner) -> None:
        self.full: Group = {}
        self.sliding: Group = {}
        self.removed = 0
        self.hits: list[int] = []  # tokens
        self.preemptions = 0
        self._runner = runner
        self._stepper = Stepper(runner, LIMITS)

    def submit(self, request: Request) -> None:
        self._stepper.submit(request)

    def step(self) -> bool:
        report: Report = self._stepper.step()
        self.preemptions = report.load.preemptions
        self.hits += [output.usage.cached_tokens for output in report.outputs if output.usage]
        if report.kv is not None:
            self._note(report.kv)
        return self._stepper.busy

    def _note(self, events: KvEvents) -> None:
        self.removed += len(events.full_removed) + len(events.sliding_removed)
        cache = self._stepper._scheduler.cache
        for group, pool, stored, slides in (
            (self.full, cache.full, events.full_stored, False),
            (self.sliding, cache.sliding, events.sliding_stored, True),
        ):
            for name in stored:
                found = block(self._runner, pool._named[name], slides)
                assert all(map(torch.equal, group.setdefault(name, found), found)), "one name for two contents"


def load(seed: int) -> list[tuple[int, Request]]:
    """Requests, and how many steps pass before each."""
    source, made = random.Random(seed), []
    documents = [[source.randrange(10, 4000) for _ in range(80)] for _ in range(3)]
    for document in documents:
        document[20 + seed] = document[50] = TURN
    for number in range(24):
        prompt = [
            *source.choice(documents)[: source.randrange(8, 81)],
            *(source.randrange(10, 4000) for _ in range(1 + number % 9)),
        ]
        sampling = Sampling(seed=number, max_tokens=source.randrange(4, 30), ignore_eos=True, top_p=0.9)
        narrowed = replace(sampling, logit_bias=NARROW) if number % 3 else sampling
        made.append((source.randrange(4), LIMITS.accept((0, number), prompt, narrowed, priority=source.randrange(2))))
    return made


def run(seen: Seen, requests: Sequence[tuple[int, Request]]) -> None:
    for steps, request in requests:
        seen.submit(request)
        for _ in range(steps):
            seen.step()
    while seen.step():
        pass


def alone(runner: TorchRunner, tokens: Sequence[int]) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """The whole blocks of a sequence that is computed at once and by itself."""
    request = driver.Request(tokens)
    driver.allocate([request], 1, BLOCK, runner.kv_blocks, sliding=runner.sliding_blocks)
    driver.step(runner, [request], [len(tokens)], BLOCK)
    whole = range(len(tokens) // BLOCK)
    return [block(runner, request.blocks[n], False) for n in whole], [block(runner, request.ring[n], True) for n in whole]


@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_cached_is_what_would_be_computed(seed: int, runner: TorchRunner) -> None:
    seen, requests = Seen(runner), load(seed)
    run(seen, requests)
    assert seen.preemptions > 0 and seen.removed > 20, "the load fits the cache"
    assert sum(hit > 0 for hit in seen.hits) > 5 and len(set(seen.hits)) > 4, "there are hits of many lengths"
    checked = 0
    for _, request in requests:
        full, sliding = alone(runner, request.tokens.array.tolist())
        for names, expected, group in ((request.chain.names, full, seen.full), (request.chain.names, sliding, seen.sliding)):
            for name, right in zip(names, expected, strict=True):
                if name in group:
                    checked += 1
                    assert all(map(torch.equal, group[name], right))
    assert checked > 150
