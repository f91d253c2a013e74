"""How kernels are chosen: once, at boot, from tables whose rows say what each kernel needs. A new kernel is a new row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from ossia.common.errors import UserError
from workers.kernels import onednn
from workers.kernels.attention import MakeAttention
from workers.kernels.experts import MakeExperts
from workers.kernels.linear import MakeLinear, TorchLinear, TorchLinearTiles
from workers.kernels.torch_dense import TorchDense, TorchDenseTiles
from workers.kernels.torch_mxfp4 import TorchMxfp4, TorchMxfp4Tiles
from workers.kernels.torch_paged import TorchPaged
from workers.kernels.torch_splits import TorchSplits

M = TypeVar("M")


@dataclass(frozen=True)
class Row(Generic[M]):
    """A kernel and what it needs."""

    name: str
    devices: frozenset[str]  # torch device types
    dtypes: frozenset[torch.dtype]  # of the activations
    layout: str  # of its operands in memory
    make: M
    deterministic: bool = False  # a token's result has the same bits in any batch
    supported: Callable[[], bool] = lambda: True  # by this host

    def fits(self, device: torch.device, dtype: torch.dtype, layout: str, deterministic: bool) -> bool:
        operands = device.type in self.devices and dtype in self.dtypes and layout == self.layout
        return operands and (self.deterministic or not deterministic) and self.supported()


ANY_DEVICE = frozenset({"cpu", "cuda"})
CPU = frozenset({"cpu"})
FLOATS = frozenset({torch.float32, torch.bfloat16})
BFLOAT16 = frozenset({torch.bfloat16})

ATTENTION: tuple[Row[MakeAttention], ...] = (
    Row("torch-paged", ANY_DEVICE, FLOATS, "paged", TorchPaged),
    Row("torch-splits", ANY_DEVICE, FLOATS, "paged", TorchSplits, deterministic=True),
)

EXPERTS: tuple[Row[MakeExperts], ...] = (
    Row("torch-mxfp4", ANY_DEVICE, FLOATS, "packed", TorchMxfp4),
    Row("onednn-dense", CPU, BFLOAT16, "dense", onednn.OnednnDense, supported=lambda: onednn.supported()),
    Row("torch-dense", ANY_DEVICE, FLOATS, "dense", TorchDense),
    Row("torch-mxfp4-tiles", ANY_DEVICE, FLOATS, "packed", TorchMxfp4Tiles, deterministic=True),
    Row("torch-dense-tiles", ANY_DEVICE, FLOATS, "dense", TorchDenseTiles, deterministic=True),
)

LINEAR: tuple[Row[MakeLinear], ...] = (
    Row("onednn-linear", CPU, BFLOAT16, "dense", onednn.OnednnLinear, supported=lambda: onednn.supported()),
    Row("torch-linear", ANY_DEVICE, FLOATS, "dense", TorchLinear),
    Row("torch-linear-tiles", ANY_DEVICE, FLOATS, "dense", TorchLinearTiles, deterministic=True),
)


def choose(
    table: Sequence[Row[M]], device: torch.device, dtype: torch.dtype, layout: str, *, deterministic: bool = False
) -> Row[M]:
    """The first row that fits. Raises UserError when none does: nothing else is tried in its place."""
    for row in table:
        if row.fits(device, dtype, layout, deterministic):
            return row
    names = ", ".join(row.name for row in table)
    what = f"{'deterministic ' if deterministic else ''}kernel for {layout} operands"
    raise UserError(f"no {what} in {dtype} on {device.type}; there are {names}")
