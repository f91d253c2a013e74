"""The planner's bytes against the tensors that a rank really holds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch

from cluster.planner import weight_bytes
from workers.checkpoint import open_checkpoint
from workers.checkpoint.random import write_random
from workers.checkpoint.released import Form
from workers.kernels.torch_dense import TorchDense
from workers.model.config import ModelConfig
from workers.model.layers import Attention, Embedding, Head, Mixture, Norm
from workers.model.layout import Layout, Shard
from workers.model.weights import Source

CONFIG = ModelConfig(1, 8, hidden_size=64, intermediate_size=320, num_attention_heads=16, vocab_size=510)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("weights")
    forms: tuple[Form, ...] = ("packed", "bf16")
    for form in forms:
        write_random(root / form, CONFIG, 1, form=form)
    return {folder.name: folder for folder in root.iterdir()}


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """Every tensor that hangs from a layer."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
    elif type(value).__module__.startswith("workers."):
        for each in vars(value).values():
            yield from _tensors(each)


@pytest.mark.parametrize("experts", ["ep", "tp"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("form", "unpack"), [("packed", False), ("packed", True), ("bf16", False)])
def test_a_rank_holds_what_the_plan_says(
    folders: dict[str, Path], experts: Literal["ep", "tp"], dtype: str, form: str, unpack: bool
) -> None:
    checkpoint = open_checkpoint(folders[form])
    for rank in range(4):
        shard = Shard(CONFIG, Layout(4, experts), rank)
        source = Source(checkpoint, shard, DTYPES[dtype], torch.device("cpu"))
        layers = [
            Embedding(source),
            Norm(source, "model.layers.0.input_layernorm"),
            Attention(source, 0),
            Norm(source, "model.layers.0.post_attention_layernorm"),
            Mixture(source, 0, TorchDense(DTYPES[dtype], torch.device("cpu")), unpack=unpack),  # holds weights as they are
            Norm(source, "model.norm"),
            Head(source),
        ]
        held = sum(tensor.untyped_storage().nbytes() for layer in layers for tensor in _tensors(layer) if tensor.dim())
        assert held == weight_bytes(shard, form == "packed", dtype, unpack)
