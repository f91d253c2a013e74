"""MXFP4 (OCP Microscaling Formats specification 1.0): 32 four-bit floats (E2M1) share a scale, a power of two (E8M0)."""

import torch
from torch import Tensor

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
BLOCK_BYTES = 16  # 32 values, the lower half of a byte first
BIAS = 127


class Unpacker:
    """Turns blocks and scales into floats of one dtype, exactly, into a buffer of its own that each call overwrites.

    Two bytes at a time index a table of all 65,536 runs of four values, held as one element of the width of four floats; the
    reused buffer matters as much, since fresh pages cost more than the look-up.
    """

    def __init__(self, values: int, dtype: torch.dtype, device: torch.device) -> None:
        """`values`: how many one call may unpack."""
        runs = torch.arange(1 << 16, device=device)
        nibbles = torch.stack([runs >> shift & 15 for shift in (0, 4, 8, 12)], 1)
        element = {torch.float32: torch.complex128, torch.bfloat16: torch.int64}[dtype]
        self.runs = torch.tensor(E2M1, dtype=dtype, device=device)[nibbles].view(element).flatten()
        self.scales = torch.ldexp(torch.ones(256, device=device), torch.arange(256, device=device) - BIAS).to(dtype)
        self.indices = torch.empty(values // 4, dtype=torch.int32, device=device)
        self.found = torch.empty(values // 4, dtype=element, device=device)
        self.dtype = dtype

    def __call__(self, blocks: Tensor, scales: Tensor) -> Tensor:
        """blocks [rows, groups, 16] and scales [rows, groups] uint8, contiguous; returns [rows, groups * 32]."""
        rows, groups = scales.shape
        count = rows * groups * BLOCK_BYTES // 2
        indices = self.indices[:count].copy_(blocks.view(torch.uint16).flatten())
        found = torch.index_select(self.runs, 0, indices, out=self.found[:count])
        values = found.view(self.dtype).view(rows, groups, 2 * BLOCK_BYTES)
        return values.mul_(self.scales[scales.int()].unsqueeze(-1)).view(rows, -1)
