"""Rotary position embedding stretched by YaRN (Peng et al., 2023, arXiv:2309.00071), as gpt-oss parametrizes it."""

import math

import torch
from torch import Tensor

from workers.model.config import ModelConfig


def correction_range(config: ModelConfig) -> tuple[float, float]:
    """The pair indices between which YaRN goes from unchanged to fully interpolated frequencies."""
    low, high = (_pair_that_turns(config, beta) for beta in (config.rope_beta_fast, config.rope_beta_slow))
    if config.rope_truncate:
        low, high = math.floor(low), math.ceil(high)
    return max(low, 0), min(high, config.head_dim - 1)


def _pair_that_turns(config: ModelConfig, times: float) -> float:
    """The (fractional) index of the pair whose rotation completes `times` turns within the original context."""
    turns = config.original_max_position_embeddings / (times * 2 * math.pi)
    return config.head_dim * math.log(turns) / (2 * math.log(config.rope_theta))


def concentration(config: ModelConfig) -> float:
    """The factor on cos and sin that sharpens attention over a stretched context."""
    return 0.1 * math.log(config.rope_factor) + 1.0 if config.rope_factor > 1 else 1.0


def inverse_frequencies(config: ModelConfig) -> Tensor:
    """[head_dim / 2] radians a position, float32, by transformers' order of operations: far positions magnify a rounding."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    periods = config.rope_theta**exponents
    low, high = correction_range(config)
    width = high - low or 0.001
    unchanged = 1 - torch.clamp((torch.arange(config.head_dim // 2, dtype=torch.float32) - low) / width, 0, 1)
    return 1.0 / (config.rope_factor * periods) * (1 - unchanged) + 1.0 / periods * unchanged


class Rope:
    """Angles of a step's positions, computed once and used by every layer."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.inverse_frequencies = inverse_frequencies(config).to(device)
        self.concentration = concentration(config)
        self.dtype = dtype

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, [tokens, 1, head_dim / 2] each, of positions [tokens]; computed in float32, then cast."""
        angles = positions[:, None, None].float() * self.inverse_frequencies
        return (angles.cos() * self.concentration).to(self.dtype), (angles.sin() * self.concentration).to(self.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the pairs (i, i + head_dim / 2) of x [tokens, heads, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
