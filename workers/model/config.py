"""The numbers that define a gpt-oss model, whatever file they were read from. No torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelConfig:
    """Field names and defaults of the released models' config.json (Hugging Face layout)."""

    num_hidden_layers: int
    num_local_experts: int
    hidden_size: int = 2880
    intermediate_size: int = 2880
    num_attention_heads: int = 64
    num_key_value_heads: int = 8
    head_dim: int = 64
    vocab_size: int = 201_088
    num_experts_per_tok: int = 4
    sliding_window: int = 128
    layer_types: tuple[str, ...] = ()  # "sliding_attention" or "full_attention", one a layer; none given: alternating
    max_position_embeddings: int = 131_072
    rms_norm_eps: float = 1e-5
    swiglu_limit: float = 7.0
    rope_theta: float = 150_000.0
    rope_factor: float = 32.0
    rope_beta_fast: float = 32.0
    rope_beta_slow: float = 1.0
    rope_truncate: bool = False
    original_max_position_embeddings: int = 4096
    stop_token_ids: tuple[int, ...] = (200_002, 199_999, 200_012)  # generation_config.json's eos_token_id

    def __post_init__(self) -> None:
        if not self.layer_types:
            types = ("sliding_attention", "full_attention")
            object.__setattr__(self, "layer_types", tuple(types[layer % 2] for layer in range(self.num_hidden_layers)))

    @property
    def window(self) -> int:
        """Tokens that sliding layers see. Where there are none, 1: a window that nothing has to be kept for."""
        return self.sliding_window if "sliding_attention" in self.layer_types else 1

    def is_sliding(self, layer: int) -> bool:
        return self.layer_types[layer] == "sliding_attention"
