"""The tensors that a gpt-oss config calls for, under Hugging Face's names, and where OpenAI's original layout keeps them.

Both layouts hold the same numbers in the same order (rotary halves, interleaved gate and up rows): names apart, the original
one only fuses q, k and v. Sources: gpt_oss/torch/{model,weights}.py and transformers' convert_gpt_oss_weights_to_hf.py.
"""

from workers.model.config import ModelConfig
from workers.model.layout import MX_BLOCK

Shape = tuple[int, ...]

_ORIGINAL_MODEL = {
    "model.embed_tokens.weight": "embedding.weight",
    "model.norm.weight": "norm.scale",
    "lm_head.weight": "unembedding.weight",
}
_ORIGINAL_LAYER = {
    "input_layernorm.weight": "attn.norm.scale",
    "self_attn.o_proj.weight": "attn.out.weight",
    "self_attn.o_proj.bias": "attn.out.bias",
    "self_attn.sinks": "attn.sinks",
    "post_attention_layernorm.weight": "mlp.norm.scale",
    "mlp.router.weight": "mlp.gate.weight",
    "mlp.router.bias": "mlp.gate.bias",
    "mlp.experts.gate_up_proj_blocks": "mlp.mlp1_weight.blocks",
    "mlp.experts.gate_up_proj_scales": "mlp.mlp1_weight.scales",
    "mlp.experts.gate_up_proj_bias": "mlp.mlp1_bias",
    "mlp.experts.down_proj_blocks": "mlp.mlp2_weight.blocks",
    "mlp.experts.down_proj_scales": "mlp.mlp2_weight.scales",
    "mlp.experts.down_proj_bias": "mlp.mlp2_bias",
}


def tensors(config: ModelConfig, packed: bool) -> dict[str, Shape]:
    """Every tensor of the model with its shape; `packed` experts are MXFP4 blocks and scales, others [experts, in, out]."""
    hidden, vocabulary = config.hidden_size, config.vocab_size
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(config.num_hidden_layers):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in _layer(config, packed).items()}
    return shapes | {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}


def original(name: str, config: ModelConfig) -> tuple[str, range | None]:
    """The original layout's tensor that holds `name`, and its rows where that tensor holds more."""
    if name in _ORIGINAL_MODEL:
        return _ORIGINAL_MODEL[name], None
    _, _, layer, rest = name.split(".", 3)
    if rest in _ORIGINAL_LAYER:
        return f"block.{layer}.{_ORIGINAL_LAYER[rest]}", None
    projection, parameter = rest.removeprefix("self_attn.").split(".")
    query, key = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    rows = {
        "q_proj": range(query),
        "k_proj": range(query, query + key),
        "v_proj": range(query + key, query + 2 * key),
    }[projection]
    return f"block.{layer}.attn.qkv.{parameter}", rows


def is_packed(name: str) -> bool:
    """Whether this tensor is a part of MXFP4 weights: bytes, not numbers."""
    return name.endswith(("_blocks", "_scales"))


def is_dense_expert(name: str) -> bool:
    """Whether this tensor is the unpacked weights of experts."""
    return name.endswith((".experts.gate_up_proj", ".experts.down_proj"))


def _layer(config: ModelConfig, packed: bool) -> dict[str, Shape]:
    hidden, experts, heads = config.hidden_size, config.num_local_experts, config.num_attention_heads
    query, key = heads * config.head_dim, config.num_key_value_heads * config.head_dim
    shapes: dict[str, Shape] = {"input_layernorm.weight": (hidden,)}
    for name, rows in (("q", query), ("k", key), ("v", key)):
        shapes |= {f"self_attn.{name}_proj.weight": (rows, hidden), f"self_attn.{name}_proj.bias": (rows,)}
    return shapes | {
        "self_attn.o_proj.weight": (hidden, query),
        "self_attn.o_proj.bias": (hidden,),
        "self_attn.sinks": (heads,),
        "post_attention_layernorm.weight": (hidden,),
        "mlp.router.weight": (experts, hidden),
        "mlp.router.bias": (experts,),
        **_experts("gate_up_proj", experts, hidden, 2 * config.intermediate_size, packed),
        **_experts("down_proj", experts, config.intermediate_size, hidden, packed),
    }


def _experts(name: str, experts: int, inputs: int, outputs: int, packed: bool) -> dict[str, Shape]:
    name = f"mlp.experts.{name}"
    shapes: dict[str, Shape] = {f"{name}_bias": (experts, outputs)}
    if not packed:
        return shapes | {name: (experts, inputs, outputs)}
    blocks = inputs // MX_BLOCK
    return shapes | {f"{name}_blocks": (experts, outputs, blocks, MX_BLOCK // 2), f"{name}_scales": (experts, outputs, blocks)}
