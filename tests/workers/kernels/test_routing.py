"""Tokens find their experts: the weighted sum of each token's local ones, whatever the others are."""

import pytest
import torch
from torch import Tensor

from workers.kernels.experts import Dense, Experts
from workers.kernels.routing import ALPHA, swiglu
from workers.kernels.torch_dense import TorchDense

GENERATOR = torch.Generator().manual_seed(2)
LIMIT = 7.0


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR)


def expected(x: Tensor, ids: Tensor, weights: Tensor, experts: Experts[Dense]) -> Tensor:
    """By the definition, a token and an expert at a time, in float64."""
    total = torch.zeros_like(x, dtype=torch.float64)
    for token, expert in ((token, expert) for token in range(len(x)) for expert in range(ids.shape[1])):
        if int(ids[token, expert]) in experts.local:
            index = int(ids[token, expert]) - experts.local.start
            inside = x[token].double() @ experts.gate_up.weight[index].double() + experts.gate_up.bias[index]  # type: ignore[index]
            gate, up = inside[::2].clamp(max=LIMIT), inside[1::2].clamp(-LIMIT, LIMIT)
            out = (gate * torch.sigmoid(ALPHA * gate) * (up + 1)) @ experts.down.weight[index].double()
            total[token] += weights[token, expert] * (out + experts.down.bias[index])  # type: ignore[index]
    return total


@pytest.mark.parametrize("local", [range(6), range(2, 5), range(5, 6), range(6, 9)], ids=str)
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_the_sum_over_local_experts(local: range, rows: int) -> None:
    count = len(local)
    gate_up, down = Dense(random(count, 24, 40) * 3, random(count, 40)), Dense(random(count, 20, 24), random(count, 24))
    ids = torch.stack([torch.randperm(6, generator=GENERATOR)[:3] for _ in range(rows)])
    arguments = (random(rows, 24), ids, torch.softmax(random(rows, 3), -1), Experts(local, LIMIT, gate_up, down))
    found = TorchDense(torch.float32, torch.device("cpu"))(*arguments)
    assert found.shape == (rows, 24)
    assert torch.allclose(found.double(), expected(*arguments), rtol=1e-4, atol=1e-4)


def test_the_activation_clamps_and_keeps_the_dtype() -> None:
    gate_up = torch.tensor([[100.0, 100.0, -100.0, -100.0, 0.0, 1.0]], dtype=torch.bfloat16)
    assert swiglu(gate_up, LIMIT).tolist() == [[56.0, 0.0, 0.0]]
    assert swiglu(gate_up, LIMIT).dtype == torch.bfloat16
