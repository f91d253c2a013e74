"""Ranks as threads, each with its share of the same logits: the sampler's collective without processes."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch
from torch import Tensor

from workers.engine.plan import Plan, Sampled
from workers.model.layout import share
from workers.runner.collective import Alone
from workers.runner.sampler import Sampler


class Thread(Alone):
    """One of `len(parts)` ranks, which meet at a barrier and see each other's parts."""

    def __init__(self, rank: int, parts: list[Tensor], barrier: Barrier) -> None:
        self.rank, self.ranks = rank, len(parts)
        self.parts, self.barrier = parts, barrier

    def exchange(self, part: Tensor) -> list[Tensor]:
        self.parts[self.rank] = part
        self.barrier.wait(10)
        found = list(self.parts)
        self.barrier.wait(10)
        assert len({part.shape for part in found}) == 1, "ranks must give parts of one shape"
        return found

    def gather(self, part: Tensor) -> list[Tensor] | None:
        found = self.exchange(part)
        return found if self.rank == 0 else None


def sample(logits: Tensor, plan: Plan, ranks: int = 1) -> Sampled:
    """What the leader samples from logits [N, vocabulary], cut into shares; the logits are left alone."""
    parts, barrier = [torch.zeros(0)] * ranks, Barrier(ranks)

    def run(rank: int) -> Sampled | None:
        part = share(logits.shape[1], ranks, rank)
        sampler = Sampler(logits.shape[1], Thread(rank, parts, barrier))
        return sampler(logits[:, part.start : part.stop].clone(), plan)

    with ThreadPoolExecutor(ranks) as pool:
        leader, *others = pool.map(run, range(ranks))
    assert leader is not None and others == [None] * len(others)
    return leader
