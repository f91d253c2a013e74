"""Which slice of the model each rank of a replica holds. Arithmetic alone: no torch, no files."""

from dataclasses import dataclass
from typing import Literal

from workers.model.config import ModelConfig

RANKS = (1, 2, 4, 8)  # what a replica may be cut into
MX_BLOCK = 32  # values that share one scale in MXFP4 (OCP Microscaling Formats specification 1.0)


ExpertSplit = Literal["ep", "tp"]


@dataclass(frozen=True)
class Layout:
    """How a replica is cut: W ranks, experts whole (`ep`) or by MX blocks of the intermediate size (`tp`)."""

    ranks: int = 1
    experts: ExpertSplit = "ep"


def refusal(config: ModelConfig, layout: Layout) -> str | None:
    """Why this model cannot be cut so: which number does not divide what. None where it can."""
    ranks, blocks = layout.ranks, config.intermediate_size // MX_BLOCK
    if ranks not in RANKS:
        return f"{ranks} ranks: a replica has {', '.join(map(str, RANKS[:-1]))} or {RANKS[-1]}"
    if config.num_key_value_heads % ranks:
        return f"{config.num_key_value_heads} key-value heads do not divide by {ranks} ranks"
    if layout.experts == "ep" and config.num_local_experts % ranks:
        return f"{config.num_local_experts} experts do not divide by {ranks} ranks"
    if layout.experts == "tp" and ranks > 1 and config.intermediate_size % MX_BLOCK:
        return f"intermediate_size {config.intermediate_size} does not divide into blocks of {MX_BLOCK}"
    if layout.experts == "tp" and blocks < ranks:
        return f"intermediate_size {config.intermediate_size} has {blocks} blocks of {MX_BLOCK}, fewer than {ranks} ranks"
    return None


def share(total: int, ranks: int, rank: int) -> range:
    """The contiguous part of `range(total)` that `rank` holds; the first `total % ranks` ranks hold one more."""
    quotient, rest = divmod(total, ranks)
    start = rank * quotient + min(rank, rest)
    return range(start, start + quotient + (rank < rest))


@dataclass(frozen=True)
class Shard:
    """One rank's part of a model."""

    config: ModelConfig
    layout: Layout
    rank: int

    @property
    def vocabulary(self) -> range:
        """Rows of the embedding and of lm_head."""
        return share(self.config.vocab_size, self.layout.ranks, self.rank)

    @property
    def kv_heads(self) -> range:
        return share(self.config.num_key_value_heads, self.layout.ranks, self.rank)

    @property
    def heads(self) -> range:
        """Query heads: those of `kv_heads`' groups."""
        group = self.config.num_attention_heads // self.config.num_key_value_heads
        return range(self.kv_heads.start * group, self.kv_heads.stop * group)

    @property
    def experts(self) -> range:
        if self.layout.experts == "tp":
            return range(self.config.num_local_experts)
        return share(self.config.num_local_experts, self.layout.ranks, self.rank)

    @property
    def intermediate(self) -> range:
        """Columns of the intermediate size, whole MX blocks; gate_up rows are the pairs `2 * start` to `2 * stop`."""
        if self.layout.experts == "ep":
            return range(self.config.intermediate_size)
        blocks = share(self.config.intermediate_size // MX_BLOCK, self.layout.ranks, self.rank)
        return range(blocks.start * MX_BLOCK, blocks.stop * MX_BLOCK)

    def block_bytes(self, block_size: int, item_bytes: int) -> tuple[int, int]:
        """Bytes of a block of the KV cache in the full group, keys and values of all full layers, and in the sliding group."""
        layer = 2 * block_size * len(self.kv_heads) * self.config.head_dim * item_bytes
        sliding = sum(map(self.config.is_sliding, range(self.config.num_hidden_layers)))
        return (self.config.num_hidden_layers - sliding) * layer, sliding * layer
