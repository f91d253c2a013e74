"""Divides a rank's KV memory between the two groups of blocks."""

from workers.engine.geometry import Geometry

SNAPSHOT_TOKENS = 1024  # of cached context, beside each of which memory is set aside for one kept window


def split(
    memory: int,
    full_block_bytes: int,
    sliding_block_bytes: int,
    block_size: int,
    window: int,
    max_sequences: int,
    token_budget: int,
    max_context: int,
) -> tuple[int, int]:
    """Full and sliding blocks that `memory` bytes hold.

    Sliding blocks are what lets `max_sequences` run and one of them prefill `token_budget` tokens a step; what is left then
    serves context and kept windows in a fixed proportion. Where memory is short of that, fewer sequences will run at once.
    A model without sliding layers has sliding blocks of 0 bytes and a window of 1.
    Raises ValueError where one request of `max_context` tokens would not fit.
    """
    geometry = Geometry(block_size, window)
    chunk, context = geometry.blocks(min(token_budget, max_context)), geometry.blocks(max_context)
    needed = least(full_block_bytes, sliding_block_bytes, geometry, token_budget, max_context)
    if memory < needed:
        raise ValueError(
            f"a KV cache of {memory / 2**20:.1f} MiB a rank cannot hold one request of {max_context} tokens, "
            f"which takes {needed / 2**20:.1f} MiB"
        )
    together = max_sequences * geometry.entitled + chunk
    rest = memory - context * full_block_bytes - together * sliding_block_bytes
    if rest < 0:
        return context, (memory - context * full_block_bytes) // sliding_block_bytes
    share = SNAPSHOT_TOKENS * full_block_bytes + block_size * geometry.width * sliding_block_bytes
    more = rest * SNAPSHOT_TOKENS // share
    kept = (rest - more * full_block_bytes) // sliding_block_bytes if sliding_block_bytes else 0
    return context + more, together + kept


def described(full_tokens: int, sliding_tokens: int) -> str:
    """What a cache of these sizes holds, for people; 0 tokens in sliding layers where there are none."""
    return f"{full_tokens} tokens in full layers" + (f" and {sliding_tokens} in sliding ones" if sliding_tokens else "")


def least(full_block_bytes: int, sliding_block_bytes: int, geometry: Geometry, token_budget: int, max_context: int) -> int:
    """Bytes that one request of `max_context` tokens takes while it is prefilled."""
    sliding = geometry.entitled + geometry.blocks(min(token_budget, max_context))
    return geometry.blocks(max_context) * full_block_bytes + sliding * sliding_block_bytes
