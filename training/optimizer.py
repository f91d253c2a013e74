"""Muon for the matrices between hidden states, Adam for the rest.

Muon (Jordan et al., 2024): momentum, turned into the nearest orthogonal matrix by a Newton-Schulz iteration. Its step is scaled
to a root mean square of 0.2 times the rate (Liu et al., 2025, arXiv:2502.16982), which is about Adam's.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from training.model import Parameters

MATRICES = ("heads", "out", "gate_up", "down")
MUON_RATE, ADAM_RATE, ROWS_RATE = 0.004, 0.002, 0.0015
MOMENTUM = 0.95
BETAS = 0.9, 0.98
EPSILON = 1e-10
DECAY = 0.01  # of the matrices, times the rate
LONGEST = 1.0  # of all gradients as of one vector, where Adam steps by them
QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's: singular values to between 0.7 and 1.2, fast
ITERATIONS = 5


class Optimizer:
    """`state` holds all that the next step depends on but the step's number."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.state = {f"{name}.momentum": torch.zeros_like(each) for name, each in parameters.items()}
        self.state |= {f"{name}.square": torch.zeros_like(each) for name, each in parameters.items() if name not in MATRICES}

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor], number: int, scale: float) -> float:
        """Changes the parameters; `number` counts from 0, `scale` multiplies the rates. Returns the gradient's length."""
        length = torch.stack([gradient.float().square().sum() for gradient in gradients.values()]).sum().sqrt().item()
        factor = min(1.0, LONGEST / (length + 1e-9))
        for name, gradient in gradients.items():
            if name in MATRICES:
                self._muon(name, gradient.float(), MUON_RATE * scale)
            else:
                self._adam(name, gradient.float() * factor, number, (ROWS_RATE if name == "rows" else ADAM_RATE) * scale)
        return length

    def _muon(self, name: str, gradient: Tensor, rate: float) -> None:
        momentum, parameter = self.state[f"{name}.momentum"], self.parameters[name]
        momentum.lerp_(gradient, 1 - MOMENTUM)
        step = orthogonal(gradient.lerp(momentum, MOMENTUM).flatten(0, -3)).view_as(parameter)
        parameter.mul_(1 - rate * DECAY).add_(step, alpha=-rate * 0.2 * max(parameter.shape[-2:]) ** 0.5)

    def _adam(self, name: str, gradient: Tensor, number: int, rate: float) -> None:
        momentum, square = self.state[f"{name}.momentum"], self.state[f"{name}.square"]
        momentum.lerp_(gradient, 1 - BETAS[0])
        square.lerp_(gradient.square(), 1 - BETAS[1])
        corrections = [1 - beta ** (number + 1) for beta in BETAS]
        self.parameters[name].addcdiv_(momentum, (square / corrections[1]).sqrt_().add_(EPSILON), value=-rate / corrections[0])


def orthogonal(matrices: Tensor) -> Tensor:
    """About U V^T of each of the matrices [n, a, b] = U S V^T with a <= b, in bfloat16."""
    a, b, c = QUINTIC
    x = matrices.bfloat16()
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + 1e-7).bfloat16()
    for _ in range(ITERATIONS):
        gram = torch.bmm(x, x.transpose(1, 2))
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.float()
