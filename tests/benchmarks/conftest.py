"""A checkpoint of gpt-oss's vocabulary that a step takes little time of."""

from pathlib import Path

import pytest

from cluster.make_checkpoint import make_checkpoint
from workers.model.config import ModelConfig

CONFIG = ModelConfig(2, 4, hidden_size=32, intermediate_size=32, num_attention_heads=4, num_key_value_heads=4, head_dim=16)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "model"
    make_checkpoint(folder, CONFIG, seed=0)
    return folder
