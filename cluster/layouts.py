"""`ossia layouts`: the planner's answers for every layout of a model."""

from cluster import devices, memory, planner, serve
from cluster.config import ServeConfig, parse_bytes
from cluster.planner import Demand, Plan, Refusal
from ossia.common.errors import UserError
from workers.checkpoint.contents import scan


def describe(config: ServeConfig, replicas: int, device_memory: str | None) -> str:
    """One line a layout.

    Every rank has `device_memory`, else what is free on a GPU of this host; where it has none, all ranks share the host's.
    Raises UserError.
    """
    size = _size(device_memory) if device_memory is not None else min(devices.gpus(), default=None)
    contents = scan(serve.find_model(config.model).path)
    dtype = serve.dtype(config, gpus=size is not None)
    demand = Demand(dtype, config.max_context, config.kv_memory, config.unpack_experts)
    free, shared = (memory.available(), replicas) if size is None else (size, None)
    answers = planner.layouts(contents.config, contents.packed, free, shared, demand)
    return "\n".join(map(_line, answers))


def _size(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UserError(f"--device-memory {error}, not {text!r}") from error


def _line(answer: Plan | Refusal) -> str:
    if isinstance(answer, Refusal):
        return f"no   {planner.name(answer.layout):7} {answer.reason}"
    rank = f"{planner.gib(max(answer.weights))} of weights and {planner.gib(answer.kv_memory)} of cache a rank"
    return f"yes  {planner.name(answer.layout):7} {rank}, {answer.cache}"
