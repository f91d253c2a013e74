"""What a rank has once it is built: a runner, and what others must know of it. No torch."""

from collections.abc import Mapping
from typing import Protocol

from workers.engine.limits import DRAFT_TOKENS, Limits
from workers.engine.plan import Runner
from workers.model.config import ModelConfig
from workers.runner.spec import RunnerSpec


class Built(Runner, Protocol):
    """Rank 0's runs steps; the others follow it."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def kv_blocks(self) -> int:
        """Of the full group, the least of all ranks."""

    @property
    def sliding_blocks(self) -> int:
        """The least of all ranks."""

    @property
    def kernels(self) -> Mapping[str, str]:
        """Kernel by table."""

    def follow(self) -> None:
        """Runs what rank 0 runs and returns when it closes; raises when a collective fails. On other ranks only."""


def limits(spec: RunnerSpec, built: Built) -> Limits:
    """What the replica can hold."""
    return Limits(
        vocab_size=built.config.vocab_size,
        stop_token_ids=frozenset(built.config.stop_token_ids),
        max_context=min(spec.max_context, built.config.max_position_embeddings),
        block_size=spec.block_size,
        kv_blocks=built.kv_blocks,
        sliding_blocks=built.sliding_blocks,
        window=built.config.window,
        max_sequences=spec.max_sequences,
        token_budget=spec.token_budget,
        draft_tokens=DRAFT_TOKENS if spec.drafts else 0,
    )
