import json
from pathlib import Path
from typing import Any

import pytest

from ossia.common.errors import UserError
from workers.checkpoint.settings import read_config
from workers.model.config import ModelConfig

YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}
RELEASED: dict[str, Any] = {  # openai/gpt-oss-20b, what concerns the computation
    "model_type": "gpt_oss",
    "num_hidden_layers": 24,
    "num_local_experts": 32,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 201_088,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "max_position_embeddings": 131_072,
    "initial_context_length": 4096,
    "rms_norm_eps": 1e-05,
    "swiglu_limit": 7.0,
    "hidden_act": "silu",
    "eos_token_id": 200_002,
    "rope_theta": 150_000,
    "rope_scaling": YARN,
}
ORIGINAL = {
    "num_hidden_layers": 24,
    "num_experts": 32,
    "experts_per_token": 4,
    "vocab_size": 201_088,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "swiglu_limit": 7.0,
    "head_dim": 64,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "sliding_window": 128,
    "initial_context_length": 4096,
    "rope_theta": 150_000,
    "rope_scaling_factor": 32.0,
    "rope_ntk_alpha": 1,
    "rope_ntk_beta": 32,
}
TWENTY = ModelConfig(num_hidden_layers=24, num_local_experts=32)


def _read(folder: Path, values: dict[str, Any], generation: object = None) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps(values))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    return read_config(folder)[0]


def _without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in RELEASED.items() if name not in names}


def test_the_released_form(tmp_path: Path) -> None:
    assert _read(tmp_path, RELEASED) == TWENTY


def test_the_form_of_transformers_5(tmp_path: Path) -> None:
    values = _without("rope_theta", "rope_scaling") | {"rope_parameters": YARN | {"rope_theta": 150_000.0}}
    assert _read(tmp_path, values) == TWENTY


def test_what_transformers_5_writes(tmp_path: Path) -> None:
    from transformers import GptOssConfig

    GptOssConfig(num_hidden_layers=24, num_local_experts=32).save_pretrained(tmp_path)
    assert read_config(tmp_path) == (TWENTY, False)


def test_the_original_form(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(ORIGINAL))
    assert read_config(tmp_path) == (TWENTY, True)


def test_rope_numbers_are_read(tmp_path: Path) -> None:
    scaling = {"rope_type": "yarn", "factor": 8, "beta_fast": 16, "beta_slow": 2, "original_max_position_embeddings": 2048}
    config = _read(tmp_path, RELEASED | {"rope_theta": 10_000, "rope_scaling": scaling})
    assert (config.rope_theta, config.rope_factor, config.rope_beta_fast, config.rope_beta_slow) == (10_000, 8, 16, 2)
    assert config.original_max_position_embeddings == 2048
    assert config.rope_truncate  # transformers' default where the file says nothing


def test_rope_without_yarn_scales_by_one(tmp_path: Path) -> None:
    assert _read(tmp_path, RELEASED | {"rope_scaling": {"rope_type": "default"}}).rope_factor == 1


def test_layers_alternate_where_the_config_is_silent(tmp_path: Path) -> None:
    assert _read(tmp_path, _without("layer_types")).layer_types == TWENTY.layer_types
    assert TWENTY.is_sliding(0)
    assert not TWENTY.is_sliding(1)


@pytest.mark.parametrize(("given", "expected"), [(7, (7,)), ([200_002, 5], (200_002, 5)), (None, (200_002, 199_999, 200_012))])
def test_stop_tokens(tmp_path: Path, given: object, expected: tuple[int, ...]) -> None:
    assert _read(tmp_path, RELEASED, given).stop_token_ids == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": None}, "num_hidden_layers must be a positive integer, found null"),
        ({"hidden_size": "2880"}, 'hidden_size must be a positive integer, found "2880"'),
        ({"hidden_size": True}, "hidden_size must be a positive integer, found true"),
        ({"vocab_size": 0}, "vocab_size must be a positive integer, found 0"),
        ({"rms_norm_eps": -1}, "rms_norm_eps must be a positive number, found -1"),
        ({"hidden_act": "gelu"}, 'hidden_act must be "silu", found "gelu"'),
        ({"swiglu_alpha": 1.0}, "swiglu_alpha must be 1.702, found 1.0"),
        ({"layer_types": ["full_attention"]}, "layer_types must be a list of 24 of sliding_attention and full_attention"),
        ({"rope_scaling": 3}, "rope_scaling must be an object, found 3"),
        ({"rope_scaling": {"rope_type": "llama3"}}, 'rope_scaling.rope_type must be "yarn" or "default", found "llama3"'),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling.factor must be a positive number, found nothing"),
        ({"rope_scaling": YARN | {"attention_factor": 2.0}}, "rope_scaling.attention_factor must be null, found 2.0"),
        ({"rope_scaling": YARN | {"truncate": 1}}, "rope_scaling.truncate must be true or false, found 1"),
        ({"num_attention_heads": 60}, "60 attention heads do not divide by 8 key-value heads"),
        ({"num_local_experts": 3}, "4 experts a token of only 3"),
        ({"head_dim": 33}, "head_dim must be even, found 33"),
    ],
)
def test_what_cannot_be_computed_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        _read(tmp_path, RELEASED | changes)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("given", ["200002", [], [1.5], -1, True])
def test_stop_tokens_that_are_none(tmp_path: Path, given: object) -> None:
    with pytest.raises(UserError, match=r"generation_config\.json: eos_token_id must be a token id or a list of them"):
        _read(tmp_path, RELEASED, given)
