"""Broken checkpoints: each is refused on one line that names the file, the tensor, what was found and what expected."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ossia.common.errors import UserError
from workers.checkpoint.contents import INDEX, scan

SINKS = "model.layers.0.self_attn.sinks"


def _refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        scan(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def _file_of(folder: Path, tensor: str) -> Path:
    name: str = json.loads((folder / INDEX).read_text())["weight_map"][tensor]
    return folder / name


def _edit(folder: Path, tensor: str, change: Callable[[dict[str, torch.Tensor]], object]) -> str:
    """Rewrites the file that holds `tensor`; returns its name."""
    file = _file_of(folder, tensor)
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    return file.name


def _configure(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_whole_checkpoints_pass(checkpoints: dict[str, Path]) -> None:
    for folder in checkpoints.values():
        assert scan(folder).folder == folder


def test_no_folder(tmp_path: Path) -> None:
    assert "no such folder" in _refusal(tmp_path / "nothing")


def test_no_config(tmp_path: Path) -> None:
    assert "no config.json" in _refusal(tmp_path)


def test_config_is_not_json(broken: Path) -> None:
    (broken / "config.json").write_text("{")
    assert "config.json: cannot be read as JSON" in _refusal(broken)


def test_config_is_no_object(broken: Path) -> None:
    (broken / "config.json").write_text("[]")
    assert "config.json: expected a JSON object, found list" in _refusal(broken)


def test_another_model(broken: Path) -> None:
    _configure(broken, model_type="llama")
    assert 'config.json: not a gpt-oss checkpoint: model_type is "llama"' in _refusal(broken)


def test_no_model_at_all(broken: Path) -> None:
    (broken / "config.json").write_text("{}")
    assert "config.json: not a gpt-oss checkpoint" in _refusal(broken)


def test_missing_tensor(broken: Path) -> None:
    _edit(broken, SINKS, lambda tensors: tensors.pop(SINKS))
    assert f"tensor {SINKS} is missing" in _refusal(broken)


def test_missing_layer(broken: Path) -> None:
    _configure(broken, num_hidden_layers=2, layer_types=None)
    assert "tensor model.layers.1.input_layernorm.weight is missing" in _refusal(broken)


def test_wrong_shape(broken: Path) -> None:
    name = _edit(broken, SINKS, lambda tensors: tensors.update({SINKS: torch.zeros(3, dtype=torch.bfloat16)}))
    assert f"{name}: tensor {SINKS} has shape [3], expected [16]" in _refusal(broken)


def test_wrong_dtype(broken: Path) -> None:
    name = _edit(broken, SINKS, lambda tensors: tensors.update({SINKS: torch.zeros(16, dtype=torch.float64)}))
    assert f"{name}: tensor {SINKS} is F64, expected BF16 or F16 or F32" in _refusal(broken)


def test_numbers_where_packed_bytes_belong(broken: Path) -> None:
    scales = "model.layers.0.mlp.experts.down_proj_scales"
    name = _edit(broken, scales, lambda tensors: tensors.update({scales: tensors[scales].float()}))
    assert f"{name}: tensor {scales} is F32, expected U8" in _refusal(broken)


def test_dense_experts_are_bf16(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints["bf16"], tmp_path / "dense")
    file = folder / "model.safetensors"
    save_file({name: tensor.float() for name, tensor in load_file(file).items()}, file)
    assert "tensor model.layers.0.mlp.experts.gate_up_proj is F32, expected BF16" in _refusal(folder)


def test_wrong_shape_in_the_original_layout(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints["original"], tmp_path / "original")
    _configure(folder, num_attention_heads=24)
    assert "tensor block.0.attn.qkv.weight has shape [2048, 64], expected [2560, 64]" in _refusal(folder)


def test_missing_file(broken: Path) -> None:
    name = _file_of(broken, SINKS).name
    (broken / name).unlink()
    assert f"{name} is missing, which {INDEX} names" in _refusal(broken)


def test_files_outside_the_folder(broken: Path) -> None:
    (broken / INDEX).write_text(json.dumps({"weight_map": {SINKS: "../elsewhere.safetensors"}}))
    assert "weight_map must map tensors to files of this folder" in _refusal(broken)


def test_truncated_file(broken: Path) -> None:
    file = _file_of(broken, SINKS)
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.truncate(size - 100)
    assert f"{file.name}: truncated, {size - 100} bytes where its header calls for {size}" in _refusal(broken)


@pytest.mark.parametrize("size", [0, 5, 60])
def test_file_truncated_in_its_header(broken: Path, size: int) -> None:
    file = _file_of(broken, SINKS)
    with file.open("r+b") as stream:
        stream.truncate(size)
    assert f"{file.name}: truncated inside its header, {size} bytes" in _refusal(broken)


@pytest.mark.parametrize(
    "content", [b"\xff" * 100, b"\x08" + b"\0" * 7 + b"not json", b"\x02" + b"\0" * 7 + b"[]"], ids=["length", "text", "list"]
)
def test_not_a_safetensors_file(broken: Path, content: bytes) -> None:
    file = _file_of(broken, SINKS)
    file.write_bytes(content)
    assert f"{file.name}: not a safetensors file" in _refusal(broken)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_pickles_are_refused(broken: Path, name: str) -> None:
    for file in (*broken.glob("*.safetensors"), broken / INDEX):
        file.unlink()
    assert "no .safetensors file" in _refusal(broken)
    (broken / name).write_bytes(b"")
    assert f"no .safetensors file, only {name}" in _refusal(broken)
