"""`ossia layouts`: the planner's answers for every layout of a model."""

from cluster import memory, planner, serve
from cluster.config import ServeConfig, parse_bytes
from cluster.planner import Demand, Plan, Refusal
from ossia.common.errors import UserError
from workers.checkpoint.contents import scan


def describe(config: ServeConfig, replicas: int, device_memory: str | None) -> str:
    """One line a layout. Without `device_memory` all ranks share what is free on this host. Raises UserError."""
    try:
        size = None if device_memory is None else parse_bytes(device_memory)
    except ValueError as error:
        raise UserError(f"--device-memory {error}, not {device_memory!r}") from error
    contents = scan(serve.find_model(config.model).path)
    demand = Demand(config.dtype or "float32", config.max_context, config.kv_memory, config.unpack_experts)
    shared = None if size is not None else replicas
    answers = planner.layouts(contents.config, contents.packed, size or memory.available(), shared, demand)
    return "\n".join(map(_line, answers))


def _line(answer: Plan | Refusal) -> str:
    if isinstance(answer, Refusal):
        return f"no   {planner.name(answer.layout):7} {answer.reason}"
    rank = f"{planner.gib(max(answer.weights))} of weights and {planner.gib(answer.kv_memory)} of cache a rank"
    return f"yes  {planner.name(answer.layout):7} {rank}, {answer.kv_tokens} tokens of cache a replica"
