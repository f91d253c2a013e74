"""Writes random gpt-oss checkpoints in the released format, for tests and benchmarks.

A tensor's values depend on its name and the seed alone, whatever the layout. They are scaled so that each layer adds about
as much as the one before, and so that greedy output wanders over the vocabulary with clear winners.
"""

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from workers.checkpoint.names import Shape, is_dense_expert, is_packed, original, tensors
from workers.checkpoint.released import Form, as_json, settings
from workers.model.config import ModelConfig
from workers.model.layout import MX_BLOCK

FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)  # OCP MX 1.0, E2M1
FP4_RMS = math.sqrt(sum(value * value for value in FP4) / len(FP4))
HEAD_STD = 4.0  # of the logits: the best of 201,088 leads the second by about one


def write_random(
    folder: Path, config: ModelConfig, seed: int, *, form: Form = "packed", shard_bytes: int | None = None
) -> None:
    """Writes the checkpoint beside `folder` and renames it into place, so that nobody ever sees a part of it.

    `shard_bytes` splits it into files of at most about that many bytes with an index. Raises OSError where `folder` exists
    and is not empty, which is also how the later of two writers at once fails.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        _write_tensors(temporary, _recipes(config, seed, form), shard_bytes)
        for name, text in settings(config, form).items():
            (temporary / name).write_bytes(text)
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary)
        raise


Recipe = tuple[int, Callable[[], torch.Tensor]]  # size in bytes, and the tensor


def _recipes(config: ModelConfig, seed: int, form: Form) -> dict[str, Recipe]:
    shapes = tensors(config, packed=form != "bf16")
    if form != "original":
        return {name: _recipe(name, shape, seed) for name, shape in shapes.items()}
    parts: dict[str, list[Recipe]] = {}
    for name, shape in shapes.items():
        parts.setdefault(original(name, config)[0], []).append(_recipe(name, shape, seed))
    return {key: _concatenation(recipes) for key, recipes in parts.items()}


def _recipe(name: str, shape: Shape, seed: int) -> Recipe:
    return math.prod(shape) * (1 if is_packed(name) else 2), lambda: _values(name, shape, seed)


def _concatenation(recipes: list[Recipe]) -> Recipe:
    return sum(size for size, _ in recipes), lambda: torch.cat([make() for _, make in recipes])


def _values(name: str, shape: Shape, seed: int) -> torch.Tensor:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    if name.endswith("_blocks"):
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    if name.endswith("_scales"):
        exponent = 127 - round(math.log2(FP4_RMS * math.sqrt(shape[-1] * MX_BLOCK)))
        return torch.randint(exponent - 1, exponent + 2, shape, dtype=torch.uint8, generator=generator)
    if is_dense_expert(name):
        return _dense(name, shape, seed)
    mean, deviation = _distribution(name, shape)
    return torch.randn(shape, generator=generator).mul_(deviation).add_(mean).to(torch.bfloat16)


def _distribution(name: str, shape: Shape) -> tuple[float, float]:
    """Mean and standard deviation: inputs of unit variance stay so through every matrix."""
    if name.endswith("norm.weight"):
        return 1.0, 0.1
    if name.endswith(("embed_tokens.weight", "sinks")):
        return 0.0, 1.0
    if name.endswith("bias"):
        return 0.0, 0.25
    return 0.0, (HEAD_STD if name == "lm_head.weight" else 1.0) / math.sqrt(shape[-1])


def _dense(name: str, shape: Shape, seed: int) -> torch.Tensor:
    """The packed experts' numbers as bf16 [experts, in, out]: every MXFP4 number is a bf16 number."""
    experts, inputs, outputs = shape
    blocks = _values(f"{name}_blocks", (experts, outputs, inputs // MX_BLOCK, MX_BLOCK // 2), seed)
    scales = _values(f"{name}_scales", (experts, outputs, inputs // MX_BLOCK), seed)
    nibbles = torch.stack((blocks & 15, blocks >> 4), -1).flatten(-2)
    numbers = torch.ldexp(torch.tensor(FP4)[nibbles.int()], scales.int().sub(127).unsqueeze(-1))
    return numbers.flatten(-2).transpose(1, 2).contiguous().to(torch.bfloat16)


def _write_tensors(folder: Path, recipes: dict[str, Recipe], shard_bytes: int | None) -> None:
    """One shard at a time, so that memory holds no more than that."""
    metadata = {"format": "pt"}
    if shard_bytes is None:
        save_file({key: make() for key, (_, make) in recipes.items()}, folder / "model.safetensors", metadata)
        return
    shards = _shards(recipes, shard_bytes)
    weight_map: dict[str, str] = {}
    for number, keys in enumerate(shards):
        file = f"model-{number:05d}-of-{len(shards) - 1:05d}.safetensors"
        save_file({key: recipes[key][1]() for key in keys}, folder / file, metadata)
        weight_map |= dict.fromkeys(keys, file)
    total = sum(size for size, _ in recipes.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_bytes(as_json(index))


def _shards(recipes: dict[str, Recipe], shard_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    used = 0
    for key, (size, _) in recipes.items():
        if shards[-1] and used + size > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(key)
        used += size
    return shards
