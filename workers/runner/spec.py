"""What a rank needs to build its runner, in plain values that travel as JSON. No torch."""

from dataclasses import dataclass, field

from ossia.common.errors import UserError
from workers.engine.capacity import least, split
from workers.engine.geometry import Geometry
from workers.model.config import ModelConfig
from workers.model.layout import Layout, Shard

ITEM_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class RunnerSpec:
    checkpoint: str  # path of a checkpoint directory on the rank's host
    layout: Layout = field(default_factory=Layout)
    dtype: str = "float32"  # or "bfloat16": activations, KV cache, non-expert weights
    kv_memory: int = 1 << 30  # bytes of KV cache on this rank
    max_context: int = 8192  # tokens
    block_size: int = 16  # tokens in a KV block
    max_sequences: int = 64  # requests that run at once
    token_budget: int = 512  # tokens computed in a step
    deterministic: bool = False  # a token's logits have the same bits in any batch, on one layout
    drafts: bool = True  # tokens are drafted, by grammar and by look-up
    unpack_experts: bool = False  # hold the experts as dense bf16: four times the memory of MXFP4
    threads: int = 1  # torch threads
    collective_timeout_s: float = 30.0
    interface: str = "lo"  # network interface that torch.distributed binds to
    costs: tuple[float, ...] = ()  # of a simulated runner: the fields of workers.simulated.costs.Costs, seconds

    def __post_init__(self) -> None:
        if self.token_budget < self.max_sequences:
            raise UserError(
                f"a token budget of {self.token_budget} a step cannot serve {self.max_sequences} sequences: "
                "raise the budget or lower the number of sequences"
            )

    def blocks(self, config: ModelConfig) -> tuple[int, int]:
        """Full and sliding blocks that `kv_memory` holds, the same on every rank.

        Raises UserError where one request of the longest context would not fit.
        """
        sizes, context = self._block_bytes(config), self._context(config)
        try:
            return split(self.kv_memory, *sizes, self.block_size, config.window, self.max_sequences, self.token_budget, context)
        except ValueError as error:
            raise UserError(f"{error}: give the cache more (--kv-memory) or lower --max-context") from error

    def least_memory(self, config: ModelConfig) -> int:
        """Bytes of cache on a rank that one request of the longest context takes."""
        geometry = Geometry(self.block_size, config.window)
        return least(*self._block_bytes(config), geometry, self.token_budget, self._context(config))

    def _block_bytes(self, config: ModelConfig) -> tuple[int, int]:
        return Shard(config, self.layout, 0).block_bytes(self.block_size, ITEM_BYTES[self.dtype])

    def _context(self, config: ModelConfig) -> int:
        return min(self.max_context, config.max_position_embeddings)
