"""YaRN's constants, from the released configuration, and its frequencies against transformers' own function."""

import math

import pytest
import torch

from tests.workers.tiny import twin_config
from workers.model.config import ModelConfig
from workers.model.rope import Rope, concentration, correction_range, inverse_frequencies, rotate

RELEASED = ModelConfig(num_hidden_layers=24, num_local_experts=32)


def test_released_constants() -> None:
    low, high = correction_range(RELEASED)
    assert (low, high) == pytest.approx((8.0928, 17.3980), abs=1e-4)
    assert concentration(RELEASED) == pytest.approx(1.34657, abs=1e-5)


def test_ends_of_the_ramp() -> None:
    frequencies = inverse_frequencies(RELEASED).double()
    plain = 150_000.0 ** -(torch.arange(0, 64, 2, dtype=torch.float64) / 64)
    torch.testing.assert_close(frequencies[:9], plain[:9], rtol=1e-6, atol=0)
    torch.testing.assert_close(frequencies[18:], plain[18:] / 32, rtol=1e-6, atol=0)
    assert torch.all(frequencies[9:18] < plain[9:18]) and torch.all(frequencies[9:18] > plain[9:18] / 32)


def test_bits_equal_transformers() -> None:
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssRotaryEmbedding

    theirs = GptOssRotaryEmbedding(twin_config(RELEASED))
    positions = torch.tensor([0, 1, 127, 4095, 4096, 131_071])
    cos, sin = theirs(torch.zeros(1), positions[None])
    ours = Rope(RELEASED, torch.float32, torch.device("cpu"))(positions)
    assert torch.equal(ours[0][:, 0], cos[0]) and torch.equal(ours[1][:, 0], sin[0])


def test_rotation_keeps_relative_angles() -> None:
    """The product of a rotated query and key depends on their distance alone, and is sharpened by the concentration twice."""
    rope = Rope(RELEASED, torch.float64, torch.device("cpu"))
    query, key = torch.randn(2, 1, 1, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def score(at: int, other: int) -> float:
        cos, sin = rope(torch.tensor([at, other]))
        return float((rotate(query, cos[:1], sin[:1]) * rotate(key, cos[1:], sin[1:])).sum())

    assert score(700, 690) == pytest.approx(score(10, 0), rel=1e-3)
    assert score(5, 5) == pytest.approx(float((query * key).sum()) * (0.1 * math.log(32) + 1) ** 2, rel=1e-6)
