"""The fused operations of kernels.cpp, differentiable. Tensors are contiguous, in float32 or bfloat16.

torch runs what is between matrix products one operation at a time, each through memory: on two cores that took longer than the
products themselves.
"""

import ctypes
import math
import platform
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch
from torch import Tensor

COMPILE = ("g++", "-std=c++17", "-O3", "-march=native", "-ffast-math", "-fopenmp", "-fPIC", "-c")
WIDE = ("-mprefer-vector-width=512",) if platform.machine() == "x86_64" else ()
LINK = ("g++", "-shared", "-nodefaultlibs", "-lstdc++", "-lm", "-lc")  # OpenMP is torch's own, so that there is one pool


class Shape(ctypes.Structure):
    """`rows` of `length` positions, the last ones of `keys`; heads of the query, of key and of value; numbers in a head."""

    _fields_ = [(name, ctypes.c_long) for name in ("rows", "length", "keys", "queries", "pairs", "dim")]
    rows: int
    length: int
    keys: int
    queries: int
    pairs: int
    dim: int


@cache
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        objects, library = Path(folder) / "kernels.o", Path(folder) / "kernels.so"
        try:
            subprocess.run([*COMPILE, *WIDE, Path(__file__).with_suffix(".cpp"), "-o", objects], check=True)
        except FileNotFoundError:
            raise click.ClickException("training compiles its kernels with g++, which is not installed") from None
        subprocess.run([LINK[0], LINK[1], objects, *LINK[2:], "-o", library], check=True)
        return ctypes.CDLL(str(library))


def _call(name: str, dtype: torch.dtype, *arguments: Any) -> None:
    function = getattr(_library(), f"{name}_{str(dtype).removeprefix('torch.')}")
    function.restype = None
    function(*map(_argument, arguments))


def _argument(value: Any) -> Any:
    if isinstance(value, Tensor):
        assert value.is_contiguous()
        return ctypes.c_void_p(value.data_ptr())
    return {int: ctypes.c_long, float: ctypes.c_float}.get(type(value), lambda same: same)(value)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        y, scales = torch.empty_like(x), torch.empty(len(x))
        _call("norm", x.dtype, x, weight, y, scales, *x.shape, epsilon)
        context.save_for_backward(x, weight, scales)
        return y

    @staticmethod
    def backward(context: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scales = context.saved_tensors
        dx, dweight = torch.empty_like(x), torch.empty_like(weight)
        _call("norm_back", x.dtype, x, weight, scales, dy.contiguous(), dx, dweight, *x.shape)
        return dx, dweight, None


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """RMSNorm of x [tokens, width]; the weight [width] is float32."""
    found: Tensor = _Norm.apply(x, weight, epsilon)  # type: ignore[no-untyped-call]
    return found


class Part(NamedTuple):
    """Some positions' query [rows, queries, length, dim], key and value [rows, pairs, keys, dim], and their softmax."""

    query: Tensor
    key: Tensor
    value: Tensor
    weights: Tensor  # [rows, queries, length, keys]
    rest: Tensor  # [rows, queries, length]: the sinks' share


class _Attention(torch.autograd.Function):
    """The prefix, if there is one, is computed once, as a row of its own; its keys and values are copied to each row."""

    @staticmethod
    def forward(
        context: Any, heads: Tensor, bias: Tensor, sinks: Tensor, turns: tuple[Tensor, Tensor], shape: Shape, window: int
    ) -> Tensor:
        prefix = shape.keys - shape.length
        before = Shape(1, prefix, prefix, shape.queries, shape.pairs, shape.dim)
        parts: list[Part] = []
        outs: list[Tensor] = []
        for part, first in ((before, 0), (shape, prefix)):
            if part.length:
                own = heads[first : first + part.rows * part.length]
                query, key, value = _turned(own, bias, [turn[first:] for turn in turns], part)
                if parts:
                    key[:, :, :prefix], value[:, :, :prefix] = parts[0].key, parts[0].value
                parts.append(_weighted(query, key, value, sinks, part, window))
                outs.append(_mixed(parts[-1], part))
        context.save_for_backward(*turns, *(tensor for part in parts for tensor in part))
        context.shapes, context.window, context.prefix = (before, shape)[-len(parts) :], window, prefix
        return torch.cat(outs) if len(outs) > 1 else outs[0]

    @staticmethod
    def backward(context: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin, *saved = context.saved_tensors
        parts = [Part(*saved[start : start + 5]) for start in range(0, len(saved), 5)]
        prefix: int = context.prefix
        width = context.shapes[-1].queries + 2 * context.shapes[-1].pairs
        dheads = dout.new_empty(len(dout), width * context.shapes[-1].dim)
        dbias, dsinks = torch.zeros(dheads.shape[1]), torch.zeros(context.shapes[-1].queries)
        later: tuple[Tensor, Tensor] | None = None
        for part, shape in zip(reversed(parts), reversed(context.shapes), strict=True):
            first = shape.keys - shape.length
            own = slice(first, first + shape.rows * shape.length)
            dquery, dkey, dvalue, dsink = _weighted_back(dout[own], part, shape, context.window)
            if later is not None:
                dkey, dvalue = dkey + later[0], dvalue + later[1]
            part_bias = torch.empty_like(dbias)
            turns = cos[first:], sin[first:]
            _call("turn_back", dout.dtype, dquery, dkey, dvalue, *turns, dheads[own], part_bias, shape)
            dbias, dsinks = dbias + part_bias, dsinks + dsink
            later = dkey[:, :, :prefix].sum(0, keepdim=True), dvalue[:, :, :prefix].sum(0, keepdim=True)
        return dheads, dbias.to(dout.dtype).view(width, -1), dsinks, None, None, None


def _turned(heads: Tensor, bias: Tensor, turns: list[Tensor], shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    query = heads.new_empty(shape.rows, shape.queries, shape.length, shape.dim)
    key = heads.new_empty(shape.rows, shape.pairs, shape.keys, shape.dim)
    value = torch.empty_like(key)
    _call("turn", heads.dtype, heads, bias, *turns, query, key, value, shape)
    return query, key, value


def _grouped(tensor: Tensor, shape: Shape) -> Tensor:
    """[rows, queries, length, n] as [rows * pairs, group * length, n]."""
    return tensor.view(shape.rows * shape.pairs, -1, tensor.shape[-1])


def _weighted(query: Tensor, key: Tensor, value: Tensor, sinks: Tensor, shape: Shape, window: int) -> Part:
    weights = torch.bmm(_grouped(query, shape), key.flatten(0, 1).transpose(1, 2))
    rest = torch.empty(query.shape[:3])
    _call("soften", query.dtype, weights, sinks, rest, shape, window)
    return Part(query, key, value, weights, rest)


def _mixed(part: Part, shape: Shape) -> Tensor:
    """[rows * length, queries * dim]."""
    mixed = torch.bmm(part.weights, part.value.flatten(0, 1)).view_as(part.query)
    return mixed.transpose(1, 2).reshape(shape.rows * shape.length, -1)


def _weighted_back(dout: Tensor, part: Part, shape: Shape, window: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the gradients of query, key, value and sinks are."""
    dmixed = _grouped(dout.reshape(shape.rows, shape.length, shape.queries, -1).transpose(1, 2).contiguous(), shape)
    dvalue = torch.bmm(part.weights.transpose(1, 2), dmixed).view_as(part.value)
    dscores = torch.bmm(dmixed, part.value.flatten(0, 1).transpose(1, 2))
    dsinks = torch.empty(shape.queries)
    _call("soften_back", dout.dtype, dscores, part.weights, part.rest, dsinks, shape, window)
    dquery = torch.bmm(dscores, part.key.flatten(0, 1)).view_as(part.query)
    dkey = torch.bmm(dscores.transpose(1, 2), _grouped(part.query, shape)).view_as(part.key)
    return dquery, dkey, dvalue, dsinks


def attention(heads: Tensor, bias: Tensor, sinks: Tensor, turns: tuple[Tensor, Tensor], shape: Shape, window: int) -> Tensor:
    """[tokens, queries * dim] of heads [tokens, all heads * dim], which `bias` [all heads, dim] is added to first.

    Tokens are the keys - length of the prefix, then those of each row, all of which see the prefix. `sinks` [queries] and the
    cosines and sines `turns` [keys, dim / 2] are float32. A position sees itself and the window - 1 before it.
    """
    found: Tensor = _Attention.apply(heads, bias, sinks, turns, shape, window)  # type: ignore[no-untyped-call]
    return found


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, both: Tensor, bias: Tensor, shares: Tensor, limit: float) -> Tensor:
        inner = both.new_empty(len(both), both.shape[1] // 2)
        sizes = *shares.shape, inner.shape[1] // shares.shape[1], limit
        _call("gate", both.dtype, both, bias, shares, inner, *sizes)
        context.save_for_backward(both, bias, shares)
        context.sizes = sizes
        return inner

    @staticmethod
    def backward(context: Any, dinner: Tensor) -> tuple[Tensor | None, ...]:
        both, bias, shares = context.saved_tensors
        dboth, dshares, dbias = torch.empty_like(both), torch.empty_like(shares), torch.empty(bias.numel())
        _call("gate_back", both.dtype, both, bias, shares, dinner.contiguous(), dboth, dshares, dbias, *context.sizes)
        return dboth, dbias.to(bias.dtype).view_as(bias), dshares, None


def gate(both: Tensor, bias: Tensor, shares: Tensor, limit: float) -> Tensor:
    """gpt-oss' SwiGLU of both + bias [tokens, 2 * experts * width], gates then ups, times its expert's share.

    `shares` [tokens, experts] are float32; where one is zero nothing is computed. Returns [tokens, experts * width].
    """
    found: Tensor = _Gate.apply(both, bias, shares, limit)  # type: ignore[no-untyped-call]
    return found


class _Losses(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, rows: Tensor, targets: Tensor, others: int) -> Tensor:
        gradients, losses = x @ rows.t(), torch.empty(len(x))
        _call("lose", x.dtype, gradients, targets, losses, *gradients.shape, math.log(others))
        context.save_for_backward(x, rows, gradients)
        return losses

    @staticmethod
    def backward(context: Any, dlosses: Tensor) -> tuple[Tensor | None, ...]:
        x, rows, gradients = context.saved_tensors
        scale = dlosses.unsqueeze(1).to(x.dtype)
        return (gradients @ rows) * scale, gradients.t() @ (x * scale), None, None


def losses(x: Tensor, rows: Tensor, targets: Tensor, others: int) -> Tensor:
    """[tokens] in float32: cross entropy, in nats, of the targets (int64) among the classes of `rows`.

    The logits are x @ rows.T; the last class is so many `others` that all have its logit.
    """
    found: Tensor = _Losses.apply(x, rows, targets, others)  # type: ignore[no-untyped-call]
    return found
