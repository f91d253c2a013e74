"""Unpacking MXFP4, to the bit against transformers' own dequantization."""

import pytest
import torch

from workers.kernels.mxfp4 import Unpacker

CPU = torch.device("cpu")


def random_blocks(rows: int, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (rows, groups, 16), dtype=torch.uint8, generator=generator)
    return blocks, torch.randint(0, 255, (rows, groups), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_equal_transformers(dtype: torch.dtype) -> None:
    """Every byte and every scale but 255, which is NaN."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    blocks, scales = random_blocks(255, 6)
    scales[:, 0] = torch.arange(255)
    blocks[:, 1] = torch.arange(255, dtype=torch.uint8)[:, None]
    theirs = convert_moe_packed_tensors(blocks[None], scales[None], dtype=dtype)[0].t()
    ours = Unpacker(blocks.numel() * 2, dtype, CPU)(blocks, scales)
    integer = torch.int32 if dtype == torch.float32 else torch.int16
    assert torch.equal(ours.view(integer), theirs.contiguous().view(integer))


def test_order_of_nibbles() -> None:
    blocks = torch.zeros(1, 1, 16, dtype=torch.uint8)
    blocks[0, 0, 0] = 0xF2  # 1.0 in the lower half, -6.0 in the upper
    values = Unpacker(32, torch.float32, CPU)(blocks, torch.tensor([[128]], dtype=torch.uint8))
    assert values[0, :3].tolist() == [2.0, -12.0, 0.0]


def test_buffer_is_reused_for_fewer_values() -> None:
    unpack = Unpacker(8 * 4 * 32, torch.float32, CPU)
    blocks, scales = random_blocks(8, 4)
    whole = unpack(blocks, scales).clone()
    assert torch.equal(unpack(blocks[2:5], scales[2:5]), whole[2:5])
