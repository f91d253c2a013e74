"""A gpt-oss to be trained: the same function as workers.model, differentiable, over rows that share their first tokens.

Parameters are stacked over the layers, gate and up apart, and every matrix of experts and of attention's output is
[in, out]: a layer's mixture is then one wide gated layer, and the optimizer sees stacks of equal matrices. The mixture
computes all experts and weighs those not chosen by zero, which costs a processor less than to sort tokens by expert.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from training.batch import Arrays
from training.kernels import Shape, attention, gate, losses, norm
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

    def __init__(self, config: ModelConfig, distinct: int) -> None:
        """`distinct` ids have a row of their own."""
        self.config = config
        self.others = config.vocab_size - distinct
        self.frequencies = inverse_frequencies(config)

    def __call__(self, layers: list[Layer], outer: Outer, batch: Batch) -> Tensor:
        """The losses [targets] of the batch's targets, in nats: cross entropy over classes, all ids without row being one."""
        x = self.hidden(layers, outer, batch)
        return losses(x[batch.sources], outer.rows, batch.targets, self.others)

    def hidden(self, layers: list[Layer], outer: Outer, batch: Batch) -> Tensor:
        """[tokens, hidden] behind the last norm, of the shared prefix first and then of each row."""
        config, keys = self.config, batch.prefix + batch.length
        angles = torch.arange(keys).unsqueeze(1) * self.frequencies
        turns = angles.cos() * concentration(config), angles.sin() * concentration(config)
        heads = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        shape = Shape(batch.rows, batch.length, keys, *heads)
        x = F.embedding(batch.tokens, outer.rows)
        for index, layer in enumerate(layers):
            window = config.sliding_window if config.is_sliding(index) else keys
            x = x + _attention(norm(x, layer.attention_norm, config.rms_norm_eps), layer, turns, shape, window)
            x = x + _mixture(norm(x, layer.mixture_norm, config.rms_norm_eps), layer, config)
        return norm(x, outer.norm, config.rms_norm_eps)


def _attention(x: Tensor, layer: Layer, turns: tuple[Tensor, Tensor], shape: Shape, window: int) -> Tensor:
    heads = F.linear(x, layer.heads.flatten(0, 1))
    mixed = attention(heads, layer.heads_bias, layer.sinks, turns, shape, window)
    return torch.addmm(layer.out_bias, mixed, layer.out.flatten(0, 1))


def _mixture(x: Tensor, layer: Layer, config: ModelConfig) -> Tensor:
    scores = F.linear(x.float(), layer.router, layer.router_bias)
    top, chosen = torch.topk(scores, config.num_experts_per_tok, dim=-1)
    shares = torch.zeros_like(scores).scatter(1, chosen, torch.softmax(top, -1))
    inner = gate(F.linear(x, layer.gate_up.flatten(0, 2)), layer.gate_up_bias, shares, config.swiglu_limit)
    return torch.addmm(shares.to(x.dtype) @ layer.down_bias, inner, layer.down.flatten(0, 1))


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
