"""A checkpoint that is as small as one can be."""

from pathlib import Path

import pytest

from cluster.make_checkpoint import make_checkpoint
from workers.model.config import ModelConfig

TINY = ModelConfig(2, 4, hidden_size=32, intermediate_size=32, num_attention_heads=4, num_key_value_heads=2, vocab_size=201_088)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_checkpoint(folder, TINY, seed=1)
    return folder
