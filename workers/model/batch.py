"""One step's plan as the tensors that the model computes with."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.engine.plan import Plan


@dataclass(frozen=True)
class Batch:
    """T tokens of S sequences; `plan` keeps the sequences' bounds and block tables on the host, for the attention kernels."""

    plan: Plan
    tokens: Tensor  # [T] int64
    positions: Tensor  # [T] int64
    slots: Tensor  # [T] int64: block * block_size + offset
    last: Tensor  # [N] int64: the tokens whose logits are sampled

    @classmethod
    def of(cls, plan: Plan, device: torch.device) -> "Batch":
        def move(array: NDArray[np.int32]) -> Tensor:
            return torch.from_numpy(array.astype(np.int64)).to(device)

        last = plan.query_starts[1:][plan.sampled] - 1
        return cls(plan, move(plan.tokens), move(plan.positions), move(plan.slots), move(last))
