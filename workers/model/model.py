"""gpt-oss, one rank of it: OpenAI's model card (arXiv:2508.10925), exact against transformers' eager GptOssForCausalLM."""

from collections.abc import Callable

from torch import Tensor

from workers.kernels.attention import AttentionKernel, AttentionStep
from workers.kernels.experts import ExpertKernel
from workers.model.batch import Batch
from workers.model.cache import Cache
from workers.model.layers import Attention, Embedding, Head, Mixture, Norm
from workers.model.rope import Rope
from workers.model.weights import Source

Reduce = Callable[[Tensor], Tensor]


class Block:
    """Attention and experts, each behind a norm and added to what came in."""

    def __init__(self, source: Source, layer: int, experts: ExpertKernel, reduce: Reduce, *, unpack: bool) -> None:
        name = f"model.layers.{layer}"
        self.attention_norm = Norm(source, f"{name}.input_layernorm")
        self.attention = Attention(source, layer)
        self.mixture_norm = Norm(source, f"{name}.post_attention_layernorm")
        self.mixture = Mixture(source, layer, experts, unpack=unpack)
        self.reduce = reduce

    def __call__(
        self, x: Tensor, cache: tuple[Tensor, Tensor], angles: tuple[Tensor, Tensor], batch: Batch, kernel: AttentionStep
    ) -> Tensor:
        x = x + self.reduce(self.attention(self.attention_norm(x), cache, angles, batch, kernel))
        return x + self.reduce(self.mixture(self.mixture_norm(x)))


class Model:
    """`reduce` sums a tensor over the ranks, possibly in place; with one rank it is the identity.

    `unpack` holds MXFP4 experts dense.
    """

    def __init__(
        self, source: Source, attention: AttentionKernel, experts: ExpertKernel, reduce: Reduce, *, unpack: bool = False
    ) -> None:
        config = source.shard.config
        self.head = Head(source)  # the first: as it is loaded, it may be held twice for a moment
        self.embedding = Embedding(source)
        self.blocks = [Block(source, layer, experts, reduce, unpack=unpack) for layer in range(config.num_hidden_layers)]
        self.norm = Norm(source, "model.norm")
        self.rope = Rope(config, source.dtype, source.device)
        self.attention = attention
        self.reduce = reduce

    def __call__(self, batch: Batch, cache: Cache) -> Tensor:
        """Writes the batch's keys and values to the cache; returns its rows [N, hidden], of which `head` makes logits."""
        kernel = self.attention.prepare(batch)
        angles = self.rope(batch.positions)
        x = self.reduce(self.embedding(batch.tokens))
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            x = block(x, layer, angles, batch, kernel)
        return self.norm(x.index_select(0, batch.rows))
