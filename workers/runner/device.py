"""Where a rank computes, and what its collectives run on: the one place that knows about devices."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Placement:
    device: torch.device
    backend: str  # of torch.distributed


def placement() -> Placement:
    """The first visible GPU with NCCL, else the CPU with gloo. Ray shows each rank its own GPU as the first."""
    if torch.cuda.is_available():
        return Placement(torch.device("cuda", 0), "nccl")
    return Placement(torch.device("cpu"), "gloo")
