"""`ossia make-checkpoint`, and ossia-tiny, which `ossia serve` uses when it is given no model."""

from pathlib import Path

from ossia.common import folders
from ossia.common.errors import UserError
from workers.checkpoint import compact
from workers.model.config import ModelConfig
from workers.model.layout import MX_BLOCK


def make_checkpoint(folder: Path, config: ModelConfig, seed: int, shard_bytes: int | None = None) -> None:
    """Writes a random checkpoint in the released MXFP4 format. Raises UserError: a size that cannot be, a folder in use."""
    if reason := _unfit(config):
        raise UserError(reason)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not an empty folder: name another")
    from workers.checkpoint.random import write_random

    try:
        write_random(folder, config, seed, shard_bytes=shard_bytes)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error


def default_checkpoint() -> Path:
    """The folder of ossia-tiny in the user's cache: expanded at the first call, checked by sha256 at each. Raises UserError."""
    folder = folders.cache() / "checkpoints" / compact.digest(compact.SHIPPED)[:16] / compact.SHIPPED.stem
    try:
        compact.expand(compact.SHIPPED, folder)
    except OSError as error:
        hint = "make room there, or set XDG_CACHE_HOME to a folder of yours"
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}); {hint}") from error
    return folder


def _unfit(config: ModelConfig) -> str | None:
    sizes = {"--hidden": config.hidden_size, "--intermediate": config.intermediate_size}
    counts = {"--layers": config.num_hidden_layers, "--vocab": config.vocab_size, "--kv-heads": config.num_key_value_heads}
    for flag, size in (sizes | counts).items():
        if size < 1:
            return f"{flag} {size}: must be at least 1"
    for flag, size in sizes.items():
        if size % MX_BLOCK:
            return f"{flag} {size}: must be a multiple of {MX_BLOCK}, the values of one MXFP4 block"
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if heads < 1 or heads % kv_heads:
        return f"--heads {heads}: must be a multiple of the {kv_heads} of --kv-heads"
    if config.num_local_experts < config.num_experts_per_tok:
        return f"--experts {config.num_local_experts}: a token is routed to {config.num_experts_per_tok} of them"
    return None
