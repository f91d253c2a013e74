"""Reads config.json and generation_config.json into a ModelConfig: Hugging Face's form (transformers 4 and 5), OpenAI's own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ossia.common.errors import UserError
from workers.model.config import ModelConfig

RELEASED = ModelConfig(num_hidden_layers=24, num_local_experts=32)  # where the defaults of both forms are taken from
SWIGLU_ALPHA = 1.702
LAYER_TYPES = ("sliding_attention", "full_attention")
ORIGINAL_FIELDS = ("num_experts", "experts_per_token")


def read_config(folder: Path) -> tuple[ModelConfig, bool]:
    """The model's numbers, and whether the folder has OpenAI's original layout. Raises UserError."""
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{folder}: no config.json; MODEL must be the folder of a gpt-oss checkpoint")
    fields = _Fields(file, read_json(file))
    if "model_type" in fields.values:
        config, original = _hugging_face(fields, _stop_token_ids(folder)), False
    elif all(name in fields.values for name in ORIGINAL_FIELDS):
        config, original = _original(fields), True
    else:
        raise UserError(f"{file}: not a gpt-oss checkpoint: it has no model_type")
    _check(file, config)
    return config, original


def read_json(file: Path) -> dict[str, object]:
    """A JSON object; raises UserError where the file holds anything else."""
    try:
        values = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{file}: expected a JSON object, found {type(values).__name__}")
    return values


class _Fields:
    """Fields of one JSON object, by type; a wrong one is a UserError that names file and field."""

    def __init__(self, file: Path, values: Mapping[str, object], prefix: str = "") -> None:
        self.file, self.values, self.prefix = file, values, prefix

    def integer(self, name: str, default: int | None = None) -> int:
        value = self.values.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(name, "a positive integer")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self.values.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise self.wrong(name, "a positive number")
        return float(value)

    def section(self, *names: str) -> "_Fields | None":
        """The first of these fields that is given; they hold objects."""
        for name in names:
            if (value := self.values.get(name)) is not None:
                if not isinstance(value, dict):
                    raise self.wrong(name, "an object")
                return _Fields(self.file, value, f"{name}.")
        return None

    def fixed(self, name: str, only: object) -> None:
        """Refuses a value that this model's code does not compute."""
        if self.values.get(name) not in (None, only):
            raise self.wrong(name, json.dumps(only))

    def wrong(self, name: str, expected: str) -> UserError:
        found = json.dumps(self.values[name]) if name in self.values else "nothing"
        return UserError(f"{self.file}: {self.prefix}{name} must be {expected}, found {found}")


def _hugging_face(fields: _Fields, stop_token_ids: tuple[int, ...]) -> ModelConfig:
    if fields.values["model_type"] != "gpt_oss":
        raise UserError(f"{fields.file}: not a gpt-oss checkpoint: model_type is {json.dumps(fields.values['model_type'])}")
    fields.fixed("hidden_act", "silu")
    fields.fixed("swiglu_alpha", SWIGLU_ALPHA)
    longest = fields.integer("max_position_embeddings", RELEASED.max_position_embeddings)
    layers = fields.integer("num_hidden_layers")
    return ModelConfig(
        num_hidden_layers=layers,
        num_local_experts=fields.integer("num_local_experts"),
        num_experts_per_tok=fields.integer("num_experts_per_tok", RELEASED.num_experts_per_tok),
        layer_types=_layer_types(fields, layers),
        max_position_embeddings=longest,
        rms_norm_eps=fields.number("rms_norm_eps", RELEASED.rms_norm_eps),
        stop_token_ids=stop_token_ids,
        **_common(fields),
        **_rope(fields, longest),
    )


def _original(fields: _Fields) -> ModelConfig:
    context, factor = fields.integer("initial_context_length", 4096), fields.number("rope_scaling_factor", 32.0)
    return ModelConfig(
        num_hidden_layers=fields.integer("num_hidden_layers"),
        num_local_experts=fields.integer("num_experts"),
        num_experts_per_tok=fields.integer("experts_per_token"),
        max_position_embeddings=int(context * factor),
        original_max_position_embeddings=context,
        rope_theta=fields.number("rope_theta", RELEASED.rope_theta),
        rope_factor=factor,
        rope_beta_fast=fields.number("rope_ntk_beta", RELEASED.rope_beta_fast),
        rope_beta_slow=fields.number("rope_ntk_alpha", RELEASED.rope_beta_slow),
        **_common(fields),
    )


def _common(fields: _Fields) -> dict[str, Any]:
    """Fields that both forms name alike."""
    integers = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size")
    return {
        **{name: fields.integer(name) for name in integers},
        "head_dim": fields.integer("head_dim", RELEASED.head_dim),
        "sliding_window": fields.integer("sliding_window", RELEASED.sliding_window),
        "swiglu_limit": fields.number("swiglu_limit", RELEASED.swiglu_limit),
    }


def _rope(fields: _Fields, longest: int) -> dict[str, Any]:
    """`rope_parameters` (transformers 5) or `rope_scaling` beside `rope_theta` (4), with transformers' own defaults."""
    theta = fields.number("rope_theta", RELEASED.rope_theta)
    rope = fields.section("rope_parameters", "rope_scaling")
    if rope is None:
        return {"rope_theta": theta}
    theta = rope.number("rope_theta", theta)
    kind = rope.values.get("rope_type", rope.values.get("type"))
    if kind == "default":
        return {"rope_theta": theta, "rope_factor": 1.0}
    if kind != "yarn":
        raise rope.wrong("rope_type", '"yarn" or "default"')
    for name in ("attention_factor", "mscale", "mscale_all_dim"):
        rope.fixed(name, None)
    truncate = rope.values.get("truncate", True)
    if not isinstance(truncate, bool):
        raise rope.wrong("truncate", "true or false")
    return {
        "rope_theta": theta,
        "rope_factor": rope.number("factor"),
        "rope_beta_fast": rope.number("beta_fast", 32.0),
        "rope_beta_slow": rope.number("beta_slow", 1.0),
        "rope_truncate": truncate,
        "original_max_position_embeddings": rope.integer("original_max_position_embeddings", longest),
    }


def _layer_types(fields: _Fields, layers: int) -> tuple[str, ...]:
    types = fields.values.get("layer_types")
    if types is None:
        return ()
    if not isinstance(types, list) or len(types) != layers or not all(kind in LAYER_TYPES for kind in types):
        raise fields.wrong("layer_types", f"a list of {layers} of {' and '.join(LAYER_TYPES)}")
    return tuple(types)


def _stop_token_ids(folder: Path) -> tuple[int, ...]:
    file = folder / "generation_config.json"
    if not file.is_file():
        return RELEASED.stop_token_ids
    fields = _Fields(file, read_json(file))
    ids = fields.values.get("eos_token_id")
    if ids is None:
        return RELEASED.stop_token_ids
    ids = ids if isinstance(ids, list) else [ids]
    if not ids or not all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in ids):
        raise fields.wrong("eos_token_id", "a token id or a list of them")
    return tuple(cast(list[int], ids))


def _check(file: Path, config: ModelConfig) -> None:
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if heads % kv_heads:
        raise UserError(f"{file}: {heads} attention heads do not divide by {kv_heads} key-value heads")
    if config.num_experts_per_tok > config.num_local_experts:
        raise UserError(f"{file}: {config.num_experts_per_tok} experts a token of only {config.num_local_experts}")
    if config.head_dim % 2:
        raise UserError(f"{file}: head_dim must be even, found {config.head_dim}")
