"""From a spec to a simulated runner, and to such a spec from the name of a device."""

import time
from collections.abc import Callable, Sequence

from ossia.common.errors import UserError
from workers.model.layout import Layout
from workers.runner.spec import RunnerSpec
from workers.simulated.costs import Costs, costs, device, weights
from workers.simulated.models import DEFAULT, find
from workers.simulated.runner import SimulatedRunner

CACHE_SHARE = 0.9  # of what the weights leave free on the devices
DEFAULT_DEVICE = "H100"


def spec(
    model: str = DEFAULT,
    device_name: str = DEFAULT_DEVICE,
    devices: int = 1,
    max_context: int = 8192,
    *,
    kv_memory: int | None = None,
    step_costs: Sequence[float] = (),
    max_sequences: int = RunnerSpec.max_sequences,
    token_budget: int = RunnerSpec.token_budget,
    drafts: bool = RunnerSpec.drafts,
) -> RunnerSpec:
    """One process that takes the time of so many devices of that name, in bfloat16; `kv_memory` is of all of them.

    `step_costs` (the fields of `Costs`) replace those of the device. Raises UserError: nothing known by that name, no room.
    """
    config, place = find(model), device(device_name)
    free = int(CACHE_SHARE * (place.memory * devices - weights(config).total_bytes))
    if free <= 0:
        raise UserError(
            f"{model} takes {weights(config).total_bytes / 1e9:.0f} GB, more than {devices} x {device_name} of "
            f"{place.memory / 1e9:.0f} GB: simulate more ranks or another device"
        )
    if max_context > config.max_position_embeddings:
        raise UserError(f"max context {max_context}: the model has {config.max_position_embeddings} positions")
    computed = costs(config, place, devices, max_sequences, token_budget)
    return RunnerSpec(
        checkpoint=model,
        layout=Layout(),
        dtype="bfloat16",
        kv_memory=free if kv_memory is None else kv_memory,
        max_context=max_context,
        max_sequences=max_sequences,
        token_budget=token_budget,
        drafts=drafts,
        costs=tuple(step_costs) or (computed.step, computed.prefill, computed.decode, computed.context),
    )


def build(
    spec: RunnerSpec, timer: Callable[[], float] = time.perf_counter, sleep: Callable[[float], None] = time.sleep
) -> SimulatedRunner:
    """Raises UserError where one request of `max_context` tokens would not fit into the cache."""
    config = find(spec.checkpoint)
    full, sliding = spec.blocks(config)
    return SimulatedRunner(config, full, sliding, spec.block_size, Costs(*spec.costs), timer, sleep)
