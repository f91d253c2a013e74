"""`python -m training.export --folder WORK`: the weights of a run as the compact checkpoint that is shipped."""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from training.model import CONFIG, Layer, Parameters
from training.quantize import packed
from training.train import FIRST
from workers.checkpoint.compact import SHIPPED, write
from workers.model.config import ModelConfig


def released(parameters: Parameters, config: ModelConfig) -> dict[str, Tensor]:
    """The tensors of the released layout by Hugging Face's names, bfloat16 and uint8, but the embedding and lm_head."""
    found = {"model.norm.weight": parameters["norm"]}
    for index in range(config.num_hidden_layers):
        layer = Layer(*(parameters[name][index] for name in Layer._fields))
        found |= {f"model.layers.{index}.{name}": tensor for name, tensor in _layer(layer, config).items()}
    return {name: each if each.dtype == torch.uint8 else each.bfloat16() for name, each in found.items()}


def _layer(layer: Layer, config: ModelConfig) -> dict[str, Tensor]:
    counts = [config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads]
    weights, biases = torch.split(layer.heads, counts), torch.split(layer.heads_bias, counts)
    found = {
        "input_layernorm.weight": layer.attention_norm,
        "self_attn.o_proj.weight": layer.out.flatten(0, 1).t(),
        "self_attn.o_proj.bias": layer.out_bias,
        "self_attn.sinks": layer.sinks,
        "post_attention_layernorm.weight": layer.mixture_norm,
        "mlp.router.weight": layer.router,
        "mlp.router.bias": layer.router_bias,
        "mlp.experts.gate_up_proj_bias": layer.gate_up_bias.movedim(0, -1).flatten(1),
        "mlp.experts.down_proj_bias": layer.down_bias,
    }
    for name, weight, bias in zip("qkv", weights, biases, strict=True):
        found |= {f"self_attn.{name}_proj.weight": weight.flatten(0, 1), f"self_attn.{name}_proj.bias": bias.flatten()}
    interleaved = layer.gate_up.movedim(0, 2).flatten(1, 2)
    for name, weight in (("gate_up_proj", interleaved), ("down_proj", layer.down.transpose(1, 2))):
        found[f"mlp.experts.{name}_blocks"], found[f"mlp.experts.{name}_scales"] = packed(weight)
    return found


def bits(tensor: Tensor) -> Any:
    """A bfloat16 tensor as its 16 bits (uint16), a uint8 tensor as it is."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).contiguous().numpy()


def mean(folder: Path) -> Parameters:
    """Of a run's weights before and after its last part.

    The rates end at zero both times, and what lies between two such places is better than either (Izmailov et al., 2018).
    """
    state = folder / "state.safetensors"
    with safe_open(state, "pt") as stored:
        metadata = stored.metadata()
    if metadata["step"] != metadata["steps"]:
        raise click.ClickException(f"{state} is at step {metadata['step']} of {metadata['steps']}: go on with training.train")
    first, last = load_file(folder / FIRST), load_file(state)
    return {name: (each + last[name]) / 2 for name, each in first.items()}


def export(folder: Path, file: Path) -> None:
    """Writes the compact checkpoint of the run in `folder`."""
    ids = np.array(json.loads((folder / "ids.json").read_text()), np.int32)
    parameters = mean(folder)
    tensors = {name: bits(tensor) for name, tensor in released(parameters, CONFIG).items()}
    write(file, CONFIG, ids, bits(parameters["rows"].bfloat16()), tensors)


@click.command()
@click.option("--folder", type=click.Path(path_type=Path, exists=True), required=True, help="The run's.")
@click.option("--file", type=click.Path(path_type=Path), default=SHIPPED, show_default=True, help="What to write.")
def main(folder: Path, file: Path) -> None:
    """Writes the weights of a run as a compact checkpoint."""
    export(folder, file)


if __name__ == "__main__":
    main()
