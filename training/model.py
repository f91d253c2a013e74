"""A gpt-oss to be trained: the same function as workers.model, differentiable, over rows that share their first tokens.

Parameters are stacked over the layers, gate and up apart, and every matrix of experts and of attention's output is
[in, out]: a layer's mixture is then one wide gated layer, and the optimizer sees stacks of equal matrices. The mixture
computes all experts and weighs those not chosen by zero, which costs a processor less than to sort tokens by expert.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from training.batch import Arrays
from workers.kernels.routing import ALPHA
from workers.model.config import ModelConfig
from workers.model.rope import concentration, inverse_frequencies

CONFIG = ModelConfig(
    num_hidden_layers=4,
    num_local_experts=8,
    hidden_size=224,
    intermediate_size=128,
    num_attention_heads=8,
    num_key_value_heads=4,
)
"""ossia-tiny."""
MASKED = -1e30

Parameters = dict[str, Tensor]


class Layer(NamedTuple):
    """One layer's weights. Heads are those of query, key and value, in this order; `inner` is the intermediate size."""

    attention_norm: Tensor  # [hidden]
    heads: Tensor  # [heads, head_dim, hidden]
    heads_bias: Tensor  # [heads, head_dim]
    sinks: Tensor  # [query heads]
    out: Tensor  # [query heads, head_dim, hidden]
    out_bias: Tensor  # [hidden]
    mixture_norm: Tensor  # [hidden]
    router: Tensor  # [experts, hidden]
    router_bias: Tensor  # [experts]
    gate_up: Tensor  # [2, experts, inner, hidden]
    gate_up_bias: Tensor  # [2, experts, inner]
    down: Tensor  # [experts, inner, hidden]
    down_bias: Tensor  # [experts, hidden]


class Outer(NamedTuple):
    """The weights outside the layers."""

    rows: Tensor  # [distinct + 1, hidden]: embedding and output of the ids with their own row, and of all others
    norm: Tensor  # [hidden]


FLOAT32 = ("attention_norm", "mixture_norm", "norm", "sinks", "router", "router_bias")
"""What is computed in float32."""


def shapes(config: ModelConfig, distinct: int) -> dict[str, tuple[int, ...]]:
    """Of every parameter; those of layers with the layers first."""
    hidden, dim, inner = config.hidden_size, config.head_dim, config.intermediate_size
    experts, heads = config.num_local_experts, config.num_attention_heads
    all_heads = heads + 2 * config.num_key_value_heads
    layer: dict[str, tuple[int, ...]] = {
        "attention_norm": (hidden,),
        "heads": (all_heads, dim, hidden),
        "heads_bias": (all_heads, dim),
        "sinks": (heads,),
        "out": (heads, dim, hidden),
        "out_bias": (hidden,),
        "mixture_norm": (hidden,),
        "router": (experts, hidden),
        "router_bias": (experts,),
        "gate_up": (2, experts, inner, hidden),
        "gate_up_bias": (2, experts, inner),
        "down": (experts, inner, hidden),
        "down_bias": (experts, hidden),
    }
    stacked = {name: (config.num_hidden_layers, *shape) for name, shape in layer.items()}
    return stacked | {"rows": (distinct + 1, hidden), "norm": (hidden,)}


def initial(config: ModelConfig, distinct: int, seed: int) -> Parameters:
    """Float32 parameters: norms of one, biases and sinks of zero, matrices at random."""
    generator = torch.Generator().manual_seed(seed)

    def make(name: str, shape: tuple[int, ...]) -> Tensor:
        if name.endswith("norm"):
            return torch.ones(shape)
        if name.endswith(("bias", "sinks")):
            return torch.zeros(shape)
        inputs = (
            shape[-1]
            if name not in ("out", "down")
            else shape[-2] * (shape[-3] if name == "out" else config.num_experts_per_tok)
        )
        deviation = 0.02 if name == "rows" else 0.5 / math.sqrt(inputs)
        return torch.randn(shape, generator=generator) * deviation

    return {name: make(name, shape) for name, shape in shapes(config, distinct).items()}


class Batch(NamedTuple):
    """`Arrays` as tensors."""

    tokens: Tensor
    sources: Tensor
    targets: Tensor
    prefix: int
    rows: int
    length: int

    @staticmethod
    def of(arrays: Arrays) -> "Batch":
        tokens, sources, targets = (torch.from_numpy(each) for each in (arrays.tokens, arrays.sources, arrays.targets))
        return Batch(tokens, sources, targets, arrays.prefix, arrays.rows, arrays.length)


class Model:
    """What maps weights and a batch to losses; holds no weights."""

    def __init__(self, config: ModelConfig, distinct: int, dtype: torch.dtype, *, compiled: bool) -> None:
        """`distinct` ids have a row of their own. Compiled functions take a minute to make, and are kept by torch."""
        self.config = config
        self.dtype = dtype
        self.frequencies = inverse_frequencies(config)
        self.concentration = concentration(config)
        self.multiplicity = torch.zeros(distinct + 1)
        self.multiplicity[-1] = math.log(config.vocab_size - distinct)
        self.block = torch.compile(_block, dynamic=True) if compiled else _block
        self.head = torch.compile(_losses, dynamic=True) if compiled else _losses

    def hidden(self, layers: list[Layer], outer: Outer, batch: Batch) -> Tensor:
        """[tokens, hidden] behind the last layer, of the shared prefix first and then of each row."""
        prefix, length = batch.prefix, batch.length
        angles = torch.arange(prefix + length)[:, None, None] * self.frequencies
        turns = tuple((turn * self.concentration).to(self.dtype) for turn in (angles.cos(), angles.sin()))
        window = self.config.sliding_window
        masks = {sliding: _mask(0, prefix + length, window if sliding else None) for sliding in (True, False)}
        x = F.embedding(batch.tokens, outer.rows)
        for index, layer in enumerate(layers):
            mask = masks[self.config.is_sliding(index)]
            x = self.block(x, layer, turns, mask, self.config, prefix, batch.rows, length)
        return x

    def __call__(self, layers: list[Layer], outer: Outer, batch: Batch) -> Tensor:
        """The losses [targets] of the batch's targets, in nats: cross entropy over classes, all ids without row being one."""
        x = self.hidden(layers, outer, batch)
        return self.head(x[batch.sources], outer, batch.targets, self.multiplicity, self.config.rms_norm_eps)


def logits(x: Tensor, outer: Outer, epsilon: float) -> Tensor:
    """[tokens, distinct + 1] of what `hidden` returned, in float32."""
    return F.linear(_norm(x, outer.norm, epsilon), outer.rows).float()


def _losses(x: Tensor, outer: Outer, targets: Tensor, multiplicity: Tensor, epsilon: float) -> Tensor:
    return F.cross_entropy(logits(x, outer, epsilon) + multiplicity, targets, reduction="none")


def _mask(first: int, length: int, window: int | None) -> Tensor:
    """[length, length]: zero where the query's position (row) sees the key's, else minus infinity (almost)."""
    behind = torch.arange(length)[:, None] - torch.arange(length)
    seen = (behind >= 0) & (behind < (window or length))
    return torch.zeros(length, length).masked_fill(~seen, MASKED)


def _norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    wide = x.float()
    return (weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon))).to(x.dtype)


def _block(
    x: Tensor, layer: Layer, turns: tuple[Tensor, ...], mask: Tensor, config: ModelConfig, prefix: int, rows: int, length: int
) -> Tensor:
    normed = _norm(x, layer.attention_norm, config.rms_norm_eps)
    heads = F.linear(normed, layer.heads.flatten(0, 1), layer.heads_bias.flatten())
    x = x + F.linear(
        _attention(heads, layer.sinks, turns, mask, config, prefix, rows, length), layer.out.flatten(0, 1).t(), layer.out_bias
    )
    return x + _mixture(_norm(x, layer.mixture_norm, config.rms_norm_eps), layer, config)


def _attention(
    heads: Tensor,
    sinks: Tensor,
    turns: tuple[Tensor, ...],
    mask: Tensor,
    config: ModelConfig,
    prefix: int,
    rows: int,
    length: int,
) -> Tensor:
    """[tokens, query heads * head_dim] of heads [tokens, all heads * head_dim]; the prefix' keys are those of every row."""
    cos, sin = turns
    query, key, value = _split(heads[prefix:], cos[prefix:], sin[prefix:], config, rows)
    if prefix == 0:
        return _attend(query, key, value, sinks, mask)
    first, first_key, first_value = _split(heads[:prefix], cos[:prefix], sin[:prefix], config, 1)
    key = torch.cat((first_key.expand(rows, -1, -1, -1), key), 2)
    value = torch.cat((first_value.expand(rows, -1, -1, -1), value), 2)
    before = _attend(first, first_key, first_value, sinks, mask[:prefix, :prefix])
    return torch.cat((before, _attend(query, key, value, sinks, mask[prefix:])))


def _split(heads: Tensor, cos: Tensor, sin: Tensor, config: ModelConfig, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query [rows, kv heads, group, length, head_dim], key and value [rows, kv heads, length, head_dim]."""
    queries, keys = config.num_attention_heads, config.num_key_value_heads
    heads = heads.view(rows, len(cos), queries + 2 * keys, config.head_dim)
    first, second = heads[:, :, : queries + keys].chunk(2, -1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
    query = turned[:, :, :queries].view(rows, len(cos), keys, queries // keys, config.head_dim).permute(0, 2, 3, 1, 4)
    return query, turned[:, :, queries:].transpose(1, 2), heads[:, :, queries + keys :].transpose(1, 2)


def _attend(query: Tensor, key: Tensor, value: Tensor, sinks: Tensor, mask: Tensor) -> Tensor:
    """[rows * length, query heads * head_dim]."""
    rows, keys, group, length, dim = query.shape
    queries = query.reshape(rows * keys, group * length, dim)
    scores = torch.bmm(queries, key.reshape(rows * keys, -1, dim).transpose(1, 2)).view(rows, keys, group, length, -1)
    seen = scores.float() / math.sqrt(dim) + mask
    sink = sinks.view(keys, group, 1, 1)
    highest = torch.maximum(seen.amax(-1, keepdim=True), sink).detach()
    weights = torch.exp(seen - highest)
    weights = (weights / (weights.sum(-1, keepdim=True) + torch.exp(sink - highest))).to(query.dtype)
    mixed = torch.bmm(weights.view(rows * keys, group * length, -1), value.reshape(rows * keys, -1, dim))
    return mixed.view(rows, keys, group, length, dim).permute(0, 3, 1, 2, 4).reshape(rows * length, -1)


def _mixture(x: Tensor, layer: Layer, config: ModelConfig) -> Tensor:
    scores = F.linear(x.float(), layer.router, layer.router_bias)
    top, chosen = torch.topk(scores, config.num_experts_per_tok, dim=-1)
    shares = torch.zeros_like(scores).scatter(1, chosen, torch.softmax(top, -1))
    gate_up = F.linear(x, layer.gate_up.flatten(0, 2), layer.gate_up_bias.flatten()).float()
    gate, up = gate_up.view(len(x), 2, config.num_local_experts, -1).unbind(1)
    gate, up = gate.clamp(max=config.swiglu_limit), up.clamp(-config.swiglu_limit, config.swiglu_limit)
    inner = ((up + 1) * gate * torch.sigmoid(ALPHA * gate) * shares.unsqueeze(-1)).to(x.dtype)
    return torch.addmm(shares.to(x.dtype) @ layer.down_bias, inner.flatten(1), layer.down.flatten(0, 1))


class Working:
    """The weights that a step computes with: the parameters' values in the working precision, and their gradients."""

    def __init__(self, parameters: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        self.values = {
            name: each.to(torch.float32 if name in FLOAT32 else dtype, copy=True) for name, each in parameters.items()
        }
        self.gradients = {name: torch.zeros_like(each) for name, each in self.values.items()}
        self.layers = [Layer(*(self._leaf(name, index) for name in Layer._fields)) for index in range(len(parameters["sinks"]))]
        self.outer = Outer(*(self._leaf(name) for name in Outer._fields))

    def _leaf(self, name: str, *index: int) -> Tensor:
        leaf = self.values[name][index].detach().requires_grad_()
        leaf.grad = self.gradients[name][index]
        return leaf

    @torch.no_grad()
    def set(self, parameters: Mapping[str, Tensor]) -> None:
        """New values; the gradients become zero."""
        for name, each in parameters.items():
            self.values[name].copy_(each)
            self.gradients[name].zero_()
