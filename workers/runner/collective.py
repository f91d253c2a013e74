"""What the ranks of a replica tell each other: sums, the step's plan and masks, the sampled rows. Nothing is unpickled.

Every call is bounded by the timeout given at the start, and raises when a peer is lost or late.
"""

import os
from datetime import timedelta
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch._C._distributed_c10d import Store

from workers.engine.grammar import Mask
from workers.runner.device import Placement

FIRST = 16 * 1024  # bytes of the broadcast that opens every step; most plans fit
HEADER = 8  # of them: the plan's length as int64
CLOSE = -1  # in place of a length: the leader leaves


class Collective(Protocol):
    """The ranks as one of them sees them."""

    rank: int
    ranks: int

    def reduce(self, part: Tensor) -> Tensor:
        """The ranks' sum, possibly in place of `part`."""

    def gather(self, part: Tensor) -> list[Tensor] | None:
        """On the leader, what each rank gave (same shape and dtype everywhere); None elsewhere."""

    def exchange(self, part: Tensor) -> list[Tensor]:
        """The same on every rank."""

    def beat(self) -> None:
        """Returns once every rank has called it."""

    def send(self, plan: NDArray[np.uint8]) -> None:
        """The leader's part of `receive`."""

    def receive(self) -> NDArray[np.uint8] | None:
        """The next plan from the leader; None once it has closed."""

    def share(self, masks: Mask) -> Mask:
        """The leader's masks; elsewhere, what is given only says how many."""

    def close(self) -> None:
        """On the leader, lets the others go; then leaves."""


class Alone:
    """One rank: nothing to exchange."""

    rank, ranks = 0, 1

    def reduce(self, part: Tensor) -> Tensor:
        return part

    def gather(self, part: Tensor) -> list[Tensor] | None:
        return [part]

    def exchange(self, part: Tensor) -> list[Tensor]:
        return [part]

    def beat(self) -> None:
        pass

    def send(self, plan: NDArray[np.uint8]) -> None:
        pass

    def receive(self) -> NDArray[np.uint8] | None:
        raise AssertionError("a single rank has no leader to follow")

    def share(self, masks: Mask) -> Mask:
        return masks

    def close(self) -> None:
        pass


class Group:
    """The ranks over torch.distributed's default process group."""

    def __init__(self, store: Store, rank: int, ranks: int, place: Placement, timeout_s: float, interface: str) -> None:
        """Meets the other ranks through `store`. Sets GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME to `interface`."""
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = interface
        dist.init_process_group(place.backend, store=store, rank=rank, world_size=ranks, timeout=timedelta(seconds=timeout_s))
        self.store, self.rank, self.ranks = store, rank, ranks
        self.device = place.device

    def reduce(self, part: Tensor) -> Tensor:
        dist.all_reduce(part)
        return part

    def gather(self, part: Tensor) -> list[Tensor] | None:
        parts = [torch.empty_like(part) for _ in range(self.ranks)] if self.rank == 0 else None
        dist.gather(part, parts)
        return parts

    def exchange(self, part: Tensor) -> list[Tensor]:
        parts = [torch.empty_like(part) for _ in range(self.ranks)]
        dist.all_gather(parts, part.contiguous())
        return parts

    def beat(self) -> None:
        int(self.reduce(torch.zeros(1, device=self.device)))  # waits for the device as well

    def send(self, plan: NDArray[np.uint8]) -> None:
        first = np.zeros(FIRST, np.uint8)
        first[:HEADER] = np.array([len(plan)], np.int64).view(np.uint8)
        first[HEADER : HEADER + len(plan)] = plan[: FIRST - HEADER]
        self._broadcast(first)
        if len(plan) > FIRST - HEADER:
            self._broadcast(plan[FIRST - HEADER :])

    def receive(self) -> NDArray[np.uint8] | None:
        first = self._broadcast(np.zeros(FIRST, np.uint8))
        length = int(first[:HEADER].view(np.int64)[0])
        if length == CLOSE:
            return None
        rest = length - (FIRST - HEADER)
        if rest <= 0:
            return first[HEADER:]
        return np.concatenate([first[HEADER:], self._broadcast(np.zeros(rest, np.uint8))])

    def share(self, masks: Mask) -> Mask:
        return self._broadcast(masks.view(np.uint8)).view(np.uint32)

    def close(self) -> None:
        if self.rank == 0:
            first = np.zeros(FIRST, np.uint8)
            first[:HEADER] = np.array([CLOSE], np.int64).view(np.uint8)
            self._broadcast(first)
        dist.destroy_process_group()

    def _broadcast(self, buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
        tensor = torch.from_numpy(buffer).to(self.device)
        dist.broadcast(tensor, 0)
        return tensor.cpu().numpy()


class OrderedGroup(Group):
    """Sums in the order of the ranks, wherever in a tensor a value is, at the cost of sending every part to every rank."""

    def reduce(self, part: Tensor) -> Tensor:
        total, *others = self.exchange(part)
        for other in others:
            total += other
        return total
