"""What a rank reads of each tensor, by Hugging Face's names: the loaders' arithmetic, for those who count bytes. No torch."""

from workers.model.layout import MX_BLOCK, Shard

Index = tuple[slice, ...]
WHOLE = slice(None)


def rank_slice(shard: Shard, name: str) -> Index | None:
    """The slice of the tensor's leading dimensions; () is all of it, None is nothing: one rank adds the bias of a sum."""
    if name in ("model.embed_tokens.weight", "lm_head.weight"):
        return (_slice(shard.vocabulary),)
    if ".self_attn." in name:
        return _attention(shard, name.split(".self_attn.")[1])
    if ".experts." in name:
        return _experts(shard, name.split(".experts.")[1])
    return ()


def _attention(shard: Shard, name: str) -> Index | None:
    heads = _slice(shard.heads, shard.config.head_dim)
    match name.split("."):
        case ["sinks"]:
            return (_slice(shard.heads),)
        case ["q_proj", _]:
            return (heads,)
        case ["o_proj", "weight"]:
            return (WHOLE, heads)
        case ["o_proj", "bias"]:
            return () if shard.rank == 0 else None
    return (_slice(shard.kv_heads, shard.config.head_dim),)


def _experts(shard: Shard, name: str) -> Index | None:
    experts, columns = _slice(shard.experts), shard.intermediate
    match name:
        case "gate_up_proj":
            return (experts, WHOLE, _slice(columns, 2))
        case "down_proj":
            return (experts, _slice(columns))
        case "down_proj_bias":
            return (experts,) if shard.layout.experts == "ep" or shard.rank == 0 else None
        case "down_proj_blocks" | "down_proj_scales":
            return (experts, WHOLE, slice(columns.start // MX_BLOCK, columns.stop // MX_BLOCK))
    return (experts, _slice(columns, 2))


def _slice(part: range, factor: int = 1) -> slice:
    return slice(part.start * factor, part.stop * factor)


def elements(shape: tuple[int, ...], index: Index | None) -> int:
    """How many elements such a slice of a tensor of `shape` has."""
    if index is None:
        return 0
    count = 1
    for dimension, size in enumerate(shape):
        count *= len(range(*index[dimension].indices(size))) if dimension < len(index) else size
    return count
