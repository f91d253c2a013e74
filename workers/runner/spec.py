"""What a rank needs to build its runner, in plain values that travel as JSON. No torch."""

from dataclasses import dataclass, field

from ossia.common.errors import UserError
from workers.model.layout import Layout


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
    unpack_experts: bool = False  # hold the experts as dense bf16: four times the memory of MXFP4
    threads: int = 1  # torch threads
    collective_timeout_s: float = 30.0
    interface: str = "lo"  # network interface that torch.distributed binds to

    def __post_init__(self) -> None:
        if self.token_budget < self.max_sequences:
            raise UserError(
                f"a token budget of {self.token_budget} a step cannot serve {self.max_sequences} sequences: "
                "raise the budget or lower the number of sequences"
            )
