"""bfloat16 on CPUs: weights that oneDNN laid out for its own use at load. At few rows twice as fast as weights as they lie."""

import torch
from torch import Tensor

from workers.kernels.experts import Dense, Experts, Laid
from workers.kernels.routing import ByExpert

ROWS = 1  # that the layout is made for; many are multiplied no slower with it than with one made for them


def supported() -> bool:
    """Whether this CPU multiplies bfloat16 in oneDNN."""
    built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(built and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def lay(weight: Tensor) -> Tensor:
    """A weight [out, in] of any dtype and strides as `multiply` takes it, opaque to all else, in memory of its own."""
    laid: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16().contiguous(), ROWS)
    return laid


def multiply(x: Tensor, laid: Tensor, bias: Tensor | None) -> Tensor:
    """x [rows, in] to [rows, out], both in bfloat16."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, laid, bias, "none", [], "")
    return out


class OnednnLinear:
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.laid = lay(weight)
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return multiply(x, self.laid, self.bias)


class OnednnDense(ByExpert):
    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        """Needs no scratch memory."""

    def hold(self, experts: Experts[Dense]) -> Experts[Laid]:
        return Experts(experts.local, experts.limit, _laid(experts.gate_up), _laid(experts.down))

    def linear(self, x: Tensor, layer: Laid, index: int) -> Tensor:
        return multiply(x, layer.weights[index], None if layer.bias is None else layer.bias[index])


def _laid(layer: Dense) -> Laid:
    """Through one buffer: one an expert would leave a hole behind in the heap."""
    buffer = torch.empty(layer.weight.shape[2], layer.weight.shape[1], dtype=torch.bfloat16)
    return Laid(tuple(lay(buffer.copy_(weight.t())) for weight in layer.weight), layer.bias)
