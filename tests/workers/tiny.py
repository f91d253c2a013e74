"""Small random checkpoints and their transformers twins."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workers.checkpoint.random import write_random
from workers.checkpoint.released import Form
from workers.model.config import ModelConfig

TINY = ModelConfig(
    num_hidden_layers=3,
    num_local_experts=16,
    hidden_size=128,
    intermediate_size=352,  # 11 MX blocks: no number of ranks divides them
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=16,
    vocab_size=4099,
    stop_token_ids=(1, 2),
)


def write(folder: Path, config: ModelConfig = TINY, *, seed: int = 0, form: Form = "packed") -> Path:
    path = folder / f"tiny-{form}-{seed}"
    write_random(path, config, seed, form=form)
    return path


def oracle(path: Path) -> Any:
    """transformers' eager model of a checkpoint, all in float32: `dtype` alone leaves experts read from MXFP4 in bfloat16."""
    from transformers import GptOssForCausalLM

    return GptOssForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").float().eval()


def logits(model: Any, tokens: list[int]) -> Tensor:
    """[tokens, vocabulary] by the oracle."""
    with torch.inference_mode():
        found: Tensor = model(torch.tensor([tokens])).logits[0]
    return found


def continuation(model: Any, prompt: list[int], tokens: int) -> list[int]:
    """Greedy output of the oracle's `generate`, whose stop ids are ignored."""
    with torch.inference_mode():
        output = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    return list(output[0, len(prompt) :].tolist())


def twin_config(config: ModelConfig) -> Any:
    """The same numbers as transformers takes them."""
    from transformers import GptOssConfig

    same = ["num_hidden_layers", "num_local_experts", "hidden_size", "head_dim", "max_position_embeddings", "rope_theta"]
    scaling = {
        "rope_type": "yarn",
        "factor": config.rope_factor,
        "beta_fast": config.rope_beta_fast,
        "beta_slow": config.rope_beta_slow,
        "truncate": config.rope_truncate,
        "original_max_position_embeddings": config.original_max_position_embeddings,
    }
    return GptOssConfig(**{name: getattr(config, name) for name in same}, rope_scaling=scaling)
