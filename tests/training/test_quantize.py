"""Rounding to MXFP4 against the kernel that serving unpacks it with, and against a search over all E2M1 numbers."""

import pytest
import torch

from training.quantize import packed, round_along
from workers.kernels.mxfp4 import E2M1, Unpacker


def weights(seed: int) -> torch.Tensor:
    """[3, 64, 96] of very different sizes, with zeros and with numbers half way between two of E2M1's."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(3, 64, 96, generator=generator) * torch.exp2(torch.randint(-12, 8, (3, 64, 1), generator=generator))
    found[0, :, :32] = 0
    found[1, 0, :9] = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -5.0, 6.0])
    found[1, 0, 9:32] = 0
    return found


@pytest.mark.parametrize("seed", range(3))
def test_what_is_packed_unpacks_to_what_is_rounded(seed: int) -> None:
    given = weights(seed)
    blocks, scales = packed(given)
    assert (blocks.shape, scales.shape) == ((3, 64, 3, 16), (3, 64, 3))
    unpack = Unpacker(given[0].numel(), torch.float32, torch.device("cpu"))
    found = torch.stack([unpack(*each).clone() for each in zip(blocks, scales, strict=True)])
    assert torch.equal(found, round_along(given, -1))
    assert torch.equal(torch.signbit(found), torch.signbit(given))


def test_each_is_the_nearest_number_of_its_block() -> None:
    given = weights(4)
    found = round_along(given, -1)
    scales = torch.exp2(packed(given)[1].float() - 127).repeat_interleave(32, -1)
    numbers = torch.tensor(E2M1)
    best = ((given / scales).unsqueeze(-1) - numbers).abs().amin(-1)
    assert torch.equal(((given - found) / scales).abs(), best)
    assert (given / scales).abs().max() <= 6
    assert found[1, 0, :9].tolist() == [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, -4.0, 6.0]  # ties to the even


def test_rounding_twice_is_rounding_once_along_any_dimension() -> None:
    once = round_along(weights(5).transpose(1, 2), -2)
    assert torch.equal(round_along(once, -2), once)
    assert torch.equal(once.transpose(1, 2), round_along(weights(5), -1))
