"""`--engine simulated`: what a replica is that needs no checkpoint and no device."""

from pathlib import Path

from cluster.config import ServeConfig
from workers.checkpoint.resolve import ResolvedModel
from workers.engine import capacity
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
        drafts=not config.no_drafts,
    )
    shape = models.find(model)
    full, sliding = spec.blocks(shape)
    cache = capacity.described(full * spec.block_size, sliding * spec.block_size * (shape.window > 1))
    return ResolvedModel(Path(model), models.names(model)), spec, cache
