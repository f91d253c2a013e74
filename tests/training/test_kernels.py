"""The fused operations, and their gradients, are those of plain torch."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from training import kernels
from training.kernels import Shape

ROWS, LENGTH, QUERIES, PAIRS, DIM = 3, 40, 4, 2, 16


def made(*sizes: int, seed: int) -> Tensor:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(seed))


def assert_same(fused: Callable[..., Tensor], plain: Callable[..., Tensor], inputs: Sequence[Tensor]) -> None:
    """Values, and the gradients of all inputs."""
    results = []
    for function in (fused, plain):
        own = [each.clone().requires_grad_() for each in inputs]
        found = function(*own)
        found.backward(made(*found.shape, seed=99))
        results.append([found.detach(), *(each.grad for each in own)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_norm() -> None:
    def plain(x: Tensor, weight: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight

    inputs = [made(7, 64, seed=1) * 3, 1 + made(64, seed=2)]
    assert_same(lambda x, weight: kernels.norm(x, weight, 1e-5), plain, inputs)


@pytest.mark.parametrize("window", [8, 1000])
@pytest.mark.parametrize("prefix", [0, 5, 30])
def test_attention_with_a_shared_prefix_a_window_and_sinks(prefix: int, window: int) -> None:
    keys = prefix + LENGTH
    angles = torch.arange(keys)[:, None] * torch.tensor([0.3**i for i in range(DIM // 2)])
    turns = (angles.cos(), angles.sin())
    shape = Shape(ROWS, LENGTH, keys, QUERIES, PAIRS, DIM)
    width = QUERIES + 2 * PAIRS

    def plain(heads: Tensor, bias: Tensor, sinks: Tensor) -> Tensor:
        every = heads.view(-1, width, DIM) + bias
        rows = [torch.cat([every[:prefix], every[prefix + row * LENGTH :][:LENGTH]]) for row in range(ROWS)]
        seen = [_attend(row, sinks, turns, window) for row in rows]
        return torch.cat([seen[0][:prefix], *(row[prefix:] for row in seen)])

    inputs = [made(prefix + ROWS * LENGTH, width * DIM, seed=1), made(width, DIM, seed=2), made(QUERIES, seed=3)]

    def fused(heads: Tensor, bias: Tensor, sinks: Tensor) -> Tensor:
        return kernels.attention(heads, bias, sinks, turns, shape, window)

    assert_same(fused, plain, inputs)


def _attend(heads: Tensor, sinks: Tensor, turns: tuple[Tensor, Tensor], window: int) -> Tensor:
    """[keys, queries * dim] of one row [keys, all heads, dim]."""
    query, key, value = heads.transpose(0, 1).split([QUERIES, PAIRS, PAIRS])
    query, key = _turn(query, *turns), _turn(key, *turns)
    key, value = (each.repeat_interleave(QUERIES // PAIRS, 0) for each in (key, value))
    scores = query @ key.transpose(1, 2) / DIM**0.5
    place = torch.arange(scores.shape[-1])
    behind = place[:, None] - place[None, :]
    scores = scores.masked_fill((behind < 0) | (behind >= window), -torch.inf)
    weights = torch.cat([scores, sinks[:, None, None].expand(-1, len(place), 1)], -1).softmax(-1)[..., :-1]
    return (weights @ value).transpose(0, 1).flatten(1)


def _turn(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = heads.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def test_gate_computes_only_experts_that_have_a_share() -> None:
    experts, width = 4, 32

    def plain(both: Tensor, bias: Tensor, shares: Tensor) -> Tensor:
        gate, up = (both + bias).view(-1, 2, experts, width).unbind(1)
        gate, up = gate.clamp(max=7), up.clamp(-7, 7)
        inner = (up + 1) * gate * torch.sigmoid(1.702 * gate)
        return (inner * shares[..., None] * (shares != 0)[..., None]).flatten(1)

    shares = made(9, experts, seed=3).relu()
    inputs = [made(9, 2 * experts * width, seed=1) * 4, made(2 * experts * width, seed=2), shares]
    assert (shares == 0).any() and (inputs[0].abs() > 7).any()

    def without(gradient: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """What has no share gets no gradient of it either: it is not computed."""
        return lambda both, bias, given: gradient(both, bias, torch.where(given == 0, given.detach(), given))

    def fused(both: Tensor, bias: Tensor, shares: Tensor) -> Tensor:
        return kernels.gate(both, bias, shares, 7.0)

    assert_same(without(fused), without(plain), inputs)


def test_losses_with_a_class_of_many() -> None:
    targets, others = torch.tensor([0, 3, 9, 9, 4]), 1234

    def plain(x: Tensor, rows: Tensor) -> Tensor:
        logits = x @ rows.t()
        every = torch.cat([logits[:, :-1], logits[:, -1:] + math.log(others)], 1)
        return torch.nn.functional.cross_entropy(every, targets, reduction="none")

    inputs = [made(5, 16, seed=1), made(10, 16, seed=2)]
    assert_same(lambda x, rows: kernels.losses(x, rows, targets, others), plain, inputs)
