"""The paged cache of keys and values: two groups of blocks, one that the full layers share and one for the sliding layers."""

import torch
from torch import Tensor

from workers.model.layout import Shard


class Cache:
    """Keys and values of each layer, [kv_heads, blocks of the layer's group, block_size, head_dim]. Values are finite always.

    Heads come first so that what is gathered by blocks is one matrix a head, which products take as it is.
    """

    def __init__(
        self, shard: Shard, full: int, sliding: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """`full` and `sliding`: blocks of either group."""
        self.full, self.sliding = full, sliding

        # Zeros, since a masked slot still enters a product, and old memory may hold NaN.
        def empty(layer: int) -> Tensor:
            blocks = sliding if shard.config.is_sliding(layer) else full
            return torch.zeros(len(shard.kv_heads), blocks, block_size, shard.config.head_dim, dtype=dtype, device=device)

        self.layers = [(empty(layer), empty(layer)) for layer in range(shard.config.num_hidden_layers)]
