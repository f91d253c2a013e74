"""The paged cache of keys and values: one block table serves all layers."""

import torch
from torch import Tensor

from workers.model.layout import Shard


def block_bytes(shard: Shard, block_size: int, dtype: torch.dtype) -> int:
    """Bytes of one block on one rank, keys and values of all layers."""
    values = block_size * len(shard.kv_heads) * shard.config.head_dim
    return 2 * shard.config.num_hidden_layers * values * dtype.itemsize


class Cache:
    """Keys and values of each layer, [kv_heads, blocks, block_size, head_dim].

    Heads come first so that what is gathered by blocks is one matrix a head, which products take as it is.
    """

    def __init__(self, shard: Shard, blocks: int, block_size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.blocks = blocks
        shape = (len(shard.kv_heads), blocks, block_size, shard.config.head_dim)

        # Zeros, since a masked slot still enters a product, and old memory may hold NaN.
        def empty() -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.layers = [(empty(), empty()) for _ in range(shard.config.num_hidden_layers)]
