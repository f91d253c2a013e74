import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.workers.checkpoint.conftest import TINY
from workers.checkpoint import open_checkpoint
from workers.checkpoint.contents import INDEX
from workers.checkpoint.random import write_random
from workers.model.config import ModelConfig


def _digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_the_seed_decides(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    write_random(tmp_path / "same", TINY, 1)
    write_random(tmp_path / "other", TINY, 2)
    assert _digests(tmp_path / "same") == _digests(checkpoints["packed"])
    assert _digests(tmp_path / "other")["model.safetensors"] != _digests(checkpoints["packed"])["model.safetensors"]


def test_shards_stay_within_their_size(checkpoints: dict[str, Path]) -> None:
    index = json.loads((checkpoints["sharded"] / INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 3
    assert files[0] == f"model-00000-of-{len(files) - 1:05d}.safetensors"
    assert index["metadata"]["total_size"] == sum(
        place.item_bytes * torch.Size(place.shape).numel()
        for place in open_checkpoint(checkpoints["sharded"]).contents.places.values()
    )


def test_bf16_experts_are_the_packed_ones(checkpoints: dict[str, Path]) -> None:
    """Decodes a few numbers by hand: low nibble first, sign in its top bit, scale a power of two."""
    packed, dense = open_checkpoint(checkpoints["packed"]), open_checkpoint(checkpoints["bf16"])
    name = "model.layers.1.mlp.experts.down_proj"
    blocks, scales, numbers = packed.read(f"{name}_blocks"), packed.read(f"{name}_scales"), dense.read(name)
    magnitudes = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    for expert, row, column in ((0, 0, 0), (3, 5, 37), (7, 63, 319), (2, 10, 160)):
        byte = int(blocks[expert, row, column // 32, column % 32 // 2])
        nibble = byte >> 4 if column % 2 else byte & 15
        value = magnitudes[nibble & 7] * (-1 if nibble & 8 else 1) * 2.0 ** (int(scales[expert, row, column // 32]) - 127)
        assert numbers[expert, column, row].item() == value


def test_two_writers_at_once_leave_one_whole_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "target"
    program = f"""
from pathlib import Path
from tests.workers.checkpoint.conftest import TINY
from workers.checkpoint.random import write_random
write_random(Path({str(folder)!r}), TINY, 1)
"""
    writers = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) for _ in range(2)]
    errors = [writer.communicate(timeout=120)[1].decode() for writer in writers]
    codes = sorted(writer.returncode for writer in writers)
    assert codes == [0, 1], errors
    assert "Directory not empty" in "".join(errors)
    assert [file.name for file in tmp_path.iterdir()] == ["target"]  # the loser leaves nothing behind
    open_checkpoint(folder)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("workers.checkpoint.random.save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        write_random(tmp_path / "target", TINY, 1)
    assert list(tmp_path.iterdir()) == []


def test_transformers_loads_it_and_its_greedy_output_wanders(tmp_path: Path) -> None:
    from transformers import GptOssForCausalLM

    config = ModelConfig(2, 8, hidden_size=64, intermediate_size=64, num_attention_heads=16, vocab_size=20_000)
    write_random(tmp_path / "model", config, 3)
    model: Any = GptOssForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32, attn_implementation="eager")
    checkpoint = open_checkpoint(tmp_path / "model")
    for name in ("model.layers.1.self_attn.sinks", "model.layers.0.self_attn.k_proj.bias", "lm_head.weight"):
        assert checkpoint.read(name).count_nonzero() > 0
        assert torch.equal(model.get_parameter(name), checkpoint.read(name).float())
    prompt = torch.arange(1, 17).unsqueeze(0)
    with torch.inference_mode():
        logits = model(prompt).logits[0]
        output = model.generate(prompt, max_new_tokens=32, do_sample=False)[0, 16:]
    assert 2 < logits.std() < 8
    assert len(set(output.tolist())) > 16
