"""`--engine simulated`: what a replica is that needs no checkpoint and no device."""

from pathlib import Path

from cluster.config import ServeConfig
from workers.checkpoint.resolve import ResolvedModel
from workers.runner.spec import RunnerSpec
from workers.simulated import build, models


def plan(config: ServeConfig) -> tuple[ResolvedModel, RunnerSpec, str]:
    """The model, what its one process is told, and what its cache holds. Raises UserError: unknown names, no room."""
    model = config.model or models.DEFAULT
    spec = build.spec(
        model,
        config.device or build.DEFAULT_DEVICE,
        config.ranks,
        config.max_context,
        kv_memory=None if config.kv_memory is None else config.kv_memory * config.ranks,
        step_costs=config.costs,
    )
    full, sliding = spec.blocks(models.find(model))
    cache = f"{full * spec.block_size} tokens in full layers and {sliding * spec.block_size} in sliding ones"
    return ResolvedModel(Path(model), models.names(model)), spec, cache
