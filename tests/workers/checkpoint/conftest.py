"""One tiny model, written in every form a checkpoint comes in."""

from dataclasses import replace
from pathlib import Path

import pytest

from workers.checkpoint.random import write_random
from workers.checkpoint.released import Form
from workers.model.config import ModelConfig

TINY = ModelConfig(
    num_hidden_layers=2,
    num_local_experts=8,
    hidden_size=64,
    intermediate_size=320,  # ten MX blocks: uneven over 4 and 8 ranks
    num_attention_heads=16,
    vocab_size=510,  # uneven over 4 and 8 ranks
    sliding_window=8,
)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of the same weights: packed, bf16, original, and packed in several files with an index."""
    root = tmp_path_factory.mktemp("checkpoints")
    forms: tuple[Form, ...] = ("packed", "bf16", "original")
    for form in forms:
        write_random(root / form, TINY, 1, form=form)
    write_random(root / "sharded", TINY, 1, shard_bytes=200_000)
    return {folder.name: folder for folder in root.iterdir()}


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A sharded checkpoint of one's own, to break."""
    folder = tmp_path / "broken"
    write_random(folder, replace(TINY, num_hidden_layers=1, layer_types=()), 1, shard_bytes=200_000)
    return folder
