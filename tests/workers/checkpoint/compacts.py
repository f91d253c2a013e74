"""Compact checkpoints of random numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from workers.checkpoint import compact, open_checkpoint
from workers.checkpoint.names import tensors
from workers.checkpoint.random import write_random
from workers.model.config import ModelConfig

SMALL = ModelConfig(
    2, 4, hidden_size=64, intermediate_size=32, num_attention_heads=8, num_key_value_heads=4, head_dim=16, vocab_size=510
)


def write_compact(file: Path, ids: Sequence[int], config: ModelConfig = SMALL, seed: int = 0) -> Path:
    """Writes it, and beside it `source`: the same tensors, but for an embedding whose first rows are its `rows`."""
    source = file.parent / "source"
    write_random(source, config, seed)
    checkpoint = open_checkpoint(source)
    rows = bits(checkpoint.read(compact.EXPANDED[0], slice(len(ids) + 1)))
    others = {name: bits(checkpoint.read(name)) for name in tensors(config, packed=True) if name not in compact.EXPANDED}
    compact.write(file, config, np.array(ids, np.int32), rows, others)
    return file


def bits(tensor: torch.Tensor) -> np.ndarray:
    """Of bfloat16 numbers, or bytes as they are."""
    return (tensor if tensor.dtype == torch.uint8 else tensor.view(torch.uint16)).numpy()
