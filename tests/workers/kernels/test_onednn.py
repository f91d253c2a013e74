"""oneDNN's own layout: the products of weights as they lie, to the rounding of bfloat16, with nothing left of the latter."""

import weakref

import pytest
import torch
from torch import Tensor

from workers.kernels.experts import Dense, Experts
from workers.kernels.onednn import OnednnDense, OnednnLinear, supported
from workers.kernels.torch_dense import TorchDense

pytestmark = pytest.mark.skipif(not supported(), reason="this CPU has no bfloat16 in oneDNN")
GENERATOR = torch.Generator().manual_seed(4)
PRECISION = 2**-8  # of a result that is rounded to bfloat16 once
ROWS = [1, 2, 5, 16, 33, 200]


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR).bfloat16()


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("shape", [(256, 128), (4099, 64), (16, 352), (33, 1000)], ids=str)
@pytest.mark.parametrize("biased", [True, False])
def test_a_linear_layer(rows: int, shape: tuple[int, int], biased: bool) -> None:
    x, weight, bias = random(rows, shape[1]), random(*shape), random(shape[0]) if biased else None
    exact = x.double() @ weight.double().t() + (0 if bias is None else bias.double())
    found = OnednnLinear(weight, bias)(x)
    assert (found.dtype, found.shape) == (torch.bfloat16, exact.shape)
    assert torch.allclose(found.double(), exact, rtol=PRECISION, atol=1e-4)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("lying", [False, True])
def test_experts(rows: int, lying: bool) -> None:
    """Half of the experts are another rank's. `lying` weights are [in, out] in memory, as checkpoints in bfloat16 have them."""

    def dense(inputs: int, outputs: int) -> Dense:
        weight = random(8, inputs, outputs) if lying else random(8, outputs, inputs).transpose(1, 2)
        return Dense(weight / inputs**0.5, random(8, outputs))

    experts = Experts(range(4, 12), 7.0, dense(96, 2 * 352), dense(352, 96))
    ids = torch.stack([torch.randperm(16, generator=GENERATOR)[:4] for _ in range(rows)])
    arguments = (random(rows, 96), ids, torch.softmax(random(rows, 4), -1))
    laid, plain = (kernel(torch.bfloat16, torch.device("cpu")) for kernel in (OnednnDense, TorchDense))
    found, expected = laid(*arguments, laid.hold(experts)), plain(*arguments, plain.hold(experts))
    assert expected.abs().max() > 0.3
    assert torch.allclose(found.float(), expected.float(), rtol=0, atol=16 * PRECISION)  # of up to 4


def test_weights_are_not_held_twice() -> None:
    weight, stacked = random(64, 64), random(2, 64, 64)
    gone = [weakref.ref(weight), weakref.ref(stacked)]
    linear = OnednnLinear(weight, None)
    held = OnednnDense(torch.bfloat16, weight.device).hold(Experts(range(2), 7.0, Dense(stacked, None), Dense(stacked, None)))
    del weight, stacked
    assert [reference() for reference in gone] == [None, None]
    assert linear(random(1, 64)).isfinite().all() and len(held.down.weights) == 2
