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
    Raises ValueError where one request of `max_context` tokens would not fit.
    """
    geometry = Geometry(block_size, window)
    chunk = geometry.blocks(min(token_budget, max_context))
    context, alone = geometry.blocks(max_context), geometry.entitled + chunk
    least = context * full_block_bytes + alone * sliding_block_bytes
    if memory < least:
        raise ValueError(
            f"a KV cache of {memory / 2**20:.1f} MiB a rank cannot hold one request of {max_context} tokens, "
            f"which takes {least / 2**20:.1f} MiB"
        )
    together = max_sequences * geometry.entitled + chunk
    rest = memory - context * full_block_bytes - together * sliding_block_bytes
    if rest < 0:
        return context, (memory - context * full_block_bytes) // sliding_block_bytes
    share = SNAPSHOT_TOKENS * full_block_bytes + block_size * geometry.width * sliding_block_bytes
    more = rest * SNAPSHOT_TOKENS // share
    kept = (rest - more * full_block_bytes) // sliding_block_bytes
    return context + more, together + kept
