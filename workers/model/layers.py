"""The layers of gpt-oss. Each loads its own slice of the checkpoint, and says where its result is part of the ranks' sum."""

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.kernels.attention import AttentionStep
from workers.kernels.experts import ExpertKernel
from workers.model.batch import Batch
from workers.model.experts import load_experts
from workers.model.rope import rotate
from workers.model.weights import Source


class Norm:
    """RMSNorm in float32; unlike Llama's, the weight is applied before the cast back."""

    def __init__(self, source: Source, name: str) -> None:
        self.weight = source.load(f"{name}.weight", torch.float32)
        self.epsilon = source.shard.config.rms_norm_eps

    def __call__(self, x: Tensor) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return (self.weight * (wide * scale)).to(x.dtype)


class Embedding:
    """The rank's rows of the vocabulary; other tokens are zero here, and the ranks' sum is the embedding."""

    def __init__(self, source: Source) -> None:
        self.rows = source.shard.vocabulary
        self.weight = source.load("model.embed_tokens.weight")

    def __call__(self, tokens: Tensor) -> Tensor:
        foreign = (tokens < self.rows.start) | (tokens >= self.rows.stop)
        local = (tokens - self.rows.start).masked_fill(foreign, 0)
        return F.embedding(local, self.weight).masked_fill(foreign.unsqueeze(-1), 0)


class Head:
    """Logits [tokens, rank's vocabulary] in float32."""

    def __init__(self, source: Source) -> None:
        self.linear = source.linear(source.load("lm_head.weight"), None)

    def __call__(self, x: Tensor) -> Tensor:
        return self.linear(x).float()


class Linear:
    """A rank's part of a projection; the bias is None where the result is a part of a sum and another rank adds it."""

    def __init__(self, source: Source, name: str) -> None:
        self.linear = source.linear(source.load(f"{name}.weight"), source.load_once(f"{name}.bias"))

    def __call__(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Attention:
    """The rank's kv heads with the query heads that share them; the ranks' sum is the layer's output."""

    def __init__(self, source: Source, layer: int) -> None:
        config = source.shard.config
        name = f"model.layers.{layer}.self_attn"
        self.query = Linear(source, f"{name}.q_proj")
        self.key = Linear(source, f"{name}.k_proj")
        self.value = Linear(source, f"{name}.v_proj")
        self.out = Linear(source, f"{name}.o_proj")
        self.sinks = source.load(f"{name}.sinks", torch.float32)
        self.head_dim = config.head_dim
        self.window = config.sliding_window if config.is_sliding(layer) else None

    def __call__(
        self, x: Tensor, cache: tuple[Tensor, Tensor], angles: tuple[Tensor, Tensor], batch: Batch, kernel: AttentionStep
    ) -> Tensor:
        heads = (len(x), -1, self.head_dim)
        keys, values = cache
        slots = batch.slots if self.window is None else batch.sliding_slots
        key, value = contained(rotate(self.key(x).view(heads), *angles), self.value(x).view(heads))
        keys.flatten(1, 2).index_copy_(1, slots, key.transpose(0, 1))
        values.flatten(1, 2).index_copy_(1, slots, value.transpose(0, 1))
        query = rotate(self.query(x).view(heads), *angles)
        mixed = kernel.attend(query, keys, values, self.sinks, self.window)
        return self.out(mixed.flatten(1))


def contained(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Values [tokens, kv_heads, head_dim] that are no numbers, as zeros whose keys are none.

    Who sees such a token gets no numbers either. Who must not, as behind a rejected draft or in a block that was another's,
    gives it a weight of zero, and zero times NaN would be NaN.
    """
    broken = ~values.isfinite().all(-1, keepdim=True)
    return keys.masked_fill(broken, torch.nan), values.masked_fill(broken, 0)


class Mixture:
    """The router, whole on every rank, and the rank's experts; the ranks' sum is the layer's output."""

    def __init__(self, source: Source, layer: int, kernel: ExpertKernel, *, unpack: bool) -> None:
        name = f"model.layers.{layer}.mlp"
        self.router = Linear(source, f"{name}.router")
        self.top = source.shard.config.num_experts_per_tok
        self.experts = kernel.hold(load_experts(source, f"{name}.experts", unpack=unpack))
        self.kernel = kernel

    def __call__(self, x: Tensor) -> Tensor:
        chosen = torch.topk(self.router(x), self.top, dim=-1)
        return self.kernel(x, chosen.indices, torch.softmax(chosen.values, dim=-1), self.experts)
