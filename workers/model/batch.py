"""One step's plan as the tensors that the model computes with."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.engine.plan import Plan


@dataclass(frozen=True)
class Batch:
    """T tokens of S sequences; `plan` keeps the sequences' bounds and block tables on the host, for the attention kernels.

    Slots are `block * block_size + offset` in the blocks of their group.
    """

    plan: Plan
    tokens: Tensor  # [T] int64
    positions: Tensor  # [T] int64
    slots: Tensor  # [T] int64, in the full layers
    sliding_slots: Tensor  # [T] int64, in the sliding layers
    rows: Tensor  # [N] int64: the tokens whose logits are used

    @classmethod
    def of(cls, plan: Plan, device: torch.device) -> "Batch":
        def move(array: NDArray[np.int32]) -> Tensor:
            return torch.from_numpy(array.astype(np.int64)).to(device)

        arrays = (plan.tokens, plan.positions, plan.slots, plan.sliding_slots, plan.rows)
        return cls(plan, *map(move, arrays))
