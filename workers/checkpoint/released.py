"""config.json and generation_config.json as the released models have them. No torch."""

import json
from typing import Literal

from workers.model.config import ModelConfig

Form = Literal["packed", "bf16", "original"]  # Hugging Face's with MXFP4 or bf16 experts; OpenAI's
PAD_TOKEN_ID, BOS_TOKEN_ID = 199_999, 199_998


def settings(config: ModelConfig, form: Form = "packed") -> dict[str, bytes]:
    """The JSON files of a checkpoint by name, its index of tensors apart."""
    if form == "original":
        return {"config.json": as_json(_original_config(config))}
    return {"config.json": as_json(_config(config, form)), "generation_config.json": as_json(_generation_config(config))}


def as_json(values: dict[str, object]) -> bytes:
    """One field a line."""
    return f"{json.dumps(values, indent=2)}\n".encode()


def _config(config: ModelConfig, form: Form) -> dict[str, object]:
    """The fields of the released models' config.json."""
    same = (
        "num_hidden_layers num_local_experts hidden_size intermediate_size num_attention_heads num_key_value_heads head_dim "
        "vocab_size num_experts_per_tok sliding_window layer_types max_position_embeddings rms_norm_eps swiglu_limit rope_theta"
    )
    skipped = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    quantization = {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": skipped}}
    return {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        **{name: getattr(config, name) for name in same.split()},
        "attention_bias": True,
        "hidden_act": "silu",
        "initial_context_length": config.original_max_position_embeddings,
        "tie_word_embeddings": False,
        "eos_token_id": config.stop_token_ids[0],
        **_if_in_vocabulary(config, pad_token_id=PAD_TOKEN_ID),
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": config.rope_factor,
            "beta_fast": config.rope_beta_fast,
            "beta_slow": config.rope_beta_slow,
            "truncate": config.rope_truncate,
            "original_max_position_embeddings": config.original_max_position_embeddings,
        },
        **(quantization if form == "packed" else {"dtype": "bfloat16"}),
    }


def _original_config(config: ModelConfig) -> dict[str, object]:
    same = (
        "num_hidden_layers hidden_size intermediate_size num_attention_heads num_key_value_heads head_dim vocab_size "
        "sliding_window swiglu_limit rope_theta"
    )
    return {
        **{name: getattr(config, name) for name in same.split()},
        "num_experts": config.num_local_experts,
        "experts_per_token": config.num_experts_per_tok,
        "initial_context_length": config.original_max_position_embeddings,
        "rope_scaling_factor": config.rope_factor,
        "rope_ntk_alpha": config.rope_beta_slow,
        "rope_ntk_beta": config.rope_beta_fast,
    }


def _generation_config(config: ModelConfig) -> dict[str, object]:
    special = _if_in_vocabulary(config, bos_token_id=BOS_TOKEN_ID, pad_token_id=PAD_TOKEN_ID)
    return {**special, "do_sample": True, "eos_token_id": list(config.stop_token_ids)}


def _if_in_vocabulary(config: ModelConfig, **ids: int) -> dict[str, int]:
    return {name: token for name, token in ids.items() if token < config.vocab_size}
