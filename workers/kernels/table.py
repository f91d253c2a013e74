"""How kernels are chosen: once, at boot, from two tables whose rows say what each kernel needs. A new kernel is a new row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from ossia.common.errors import UserError
from workers.kernels.attention import MakeAttention
from workers.kernels.experts import MakeExperts
from workers.kernels.torch_dense import TorchDense
from workers.kernels.torch_mxfp4 import TorchMxfp4
from workers.kernels.torch_paged import TorchPaged

M = TypeVar("M")


@dataclass(frozen=True)
class Row(Generic[M]):
    """A kernel and what it needs."""

    name: str
    devices: frozenset[str]  # torch device types
    dtypes: frozenset[torch.dtype]  # of the activations
    layout: str  # of its operands in memory
    make: M

    def fits(self, device: torch.device, dtype: torch.dtype, layout: str) -> bool:
        return device.type in self.devices and dtype in self.dtypes and layout == self.layout


ANY_DEVICE = frozenset({"cpu", "cuda"})
FLOATS = frozenset({torch.float32, torch.bfloat16})

ATTENTION: tuple[Row[MakeAttention], ...] = (Row("torch-paged", ANY_DEVICE, FLOATS, "paged", TorchPaged),)

EXPERTS: tuple[Row[MakeExperts], ...] = (
    Row("torch-mxfp4", ANY_DEVICE, FLOATS, "packed", TorchMxfp4),
    Row("torch-dense", ANY_DEVICE, FLOATS, "dense", TorchDense),
)


def choose(table: Sequence[Row[M]], device: torch.device, dtype: torch.dtype, layout: str) -> Row[M]:
    """The first row that fits. Raises UserError when none does: nothing else is tried in its place."""
    for row in table:
        if row.fits(device, dtype, layout):
            return row
    names = ", ".join(row.name for row in table)
    raise UserError(f"no kernel for {layout} operands in {dtype} on {device.type}; there are {names}")
