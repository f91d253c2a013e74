"""Makes plans by hand: prefill in chunks, then decode, for several sequences at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.engine.batch import ALL
from workers.engine.grammar import Below
from workers.engine.plan import Plan, Runner, Sampled

if TYPE_CHECKING:
    from workers.runner.runner import TorchRunner

WINDOW = 128  # tokens


@dataclass
class Request:
    """A prompt and how to sample after it. `output` grows.

    `blocks` is its block table in the full group; block b of the sliding group is `ring[b % len(ring)]`, so that what has left
    the window is overwritten.
    """

    prompt: Sequence[int]
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0
    logprobs: int = -1
    prompt_logprobs: int = -1
    repetition: float = 1.0
    seen: Sequence[int] = ()
    bias: Mapping[int, float] = field(default_factory=dict)
    mask: NDArray[np.uint32] | None = None
    below: Below = ALL
    output: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    ring: list[int] = field(default_factory=list)
    cached: int = 0

    @property
    def tokens(self) -> list[int]:
        return [*self.prompt, *self.output]


class Row(NamedTuple):
    """Token `at` of the step, whose logits are used for `request`."""

    at: int
    request: Request
    target: int = -1

    @property
    def logprobs(self) -> int:
        return self.request.logprobs if self.target < 0 else self.request.prompt_logprobs


def plan_of(requests: Sequence[Request], counts: Sequence[int], block_size: int, window: int = WINDOW) -> Plan:
    """One step in which request i computes its next `counts[i]` tokens; those that reach their end are sampled."""
    parts = list(zip(requests, counts, strict=True))
    places = [(request, p, p // block_size) for request, count in parts for p in range(request.cached, request.cached + count)]
    firsts = [max(0, request.cached - window + 1) // block_size for request in requests]
    sliding = [
        [request.ring[b % len(request.ring)] for b in range(first, (request.cached + count - 1) // block_size + 1)]
        for (request, count), first in zip(parts, firsts, strict=True)
    ]
    rows = [
        row for start, (request, count) in zip(_starts(counts), parts, strict=False) for row in _rows(start, request, count)
    ]
    return Plan(
        tokens=_ints([token for r, n in parts for token in r.tokens[r.cached : r.cached + n]]),
        positions=_ints([position for _, position, _ in places]),
        query_starts=_starts(counts),
        context_lengths=_ints([request.cached + count for request, count in parts]),
        slots=_ints([r.blocks[b] * block_size + p % block_size for r, p, b in places]),
        block_ids=_ints([block for r in requests for block in r.blocks]),
        block_starts=_starts([len(r.blocks) for r in requests]),
        sliding_slots=_ints([r.ring[b % len(r.ring)] * block_size + p % block_size for r, p, b in places]),
        sliding_ids=_ints([block for table in sliding for block in table]),
        sliding_starts=_starts([len(table) for table in sliding]),
        sliding_firsts=_ints(firsts),
        **samplings(rows),
    )


def _rows(start: int, request: Request, count: int) -> list[Row]:
    """The rows of a request whose next `count` tokens begin at token `start` of the step."""
    stop = request.cached + count
    scores = range(request.cached, min(stop, len(request.prompt) - 1)) if request.prompt_logprobs >= 0 else range(0)
    rows = [Row(start + number - request.cached, request, request.prompt[number + 1]) for number in scores]
    return [*rows, Row(start + count - 1, request)] if stop == len(request.tokens) else rows


def samplings(rows: Sequence[Row]) -> dict[str, Any]:
    """A plan's arrays over the rows."""
    requests = [row.request for row in rows]
    masks = [request.mask for request in requests if request.mask is not None]
    numbers = np.cumsum([request.mask is not None for request in requests]) - 1
    return {
        "rows": _ints([row.at for row in rows]),
        "targets": _ints([row.target for row in rows]),
        "temperatures": _floats([r.temperature if row.target < 0 else 0 for r, row in zip(requests, rows, strict=True)]),
        "top_ps": _floats([r.top_p for r in requests]),
        "top_ks": _ints([r.top_k for r in requests]),
        "min_ps": _floats([r.min_p for r in requests]),
        "seeds": np.array([r.seed for r in requests], np.uint64),
        "output_positions": _ints([len(r.output) for r in requests]),
        "logprobs": _ints([row.logprobs for row in rows]),
        "repetitions": _floats([r.repetition for r in requests]),
        "seen_ids": _ints([token for r in requests for token in r.seen]),
        "seen_starts": _starts([len(r.seen) for r in requests]),
        "bias_ids": _ints([token for r in requests for token in r.bias]),
        "bias_values": _floats([value for r in requests for value in r.bias.values()]),
        "bias_starts": _starts([len(r.bias) for r in requests]),
        "below": _ints([r.below.first for r in requests]),
        "ends": _ints([r.below.end for r in requests]),
        "mask_rows": _ints([number if r.mask is not None else -1 for r, number in zip(requests, numbers, strict=True)]),
        "masks": np.concatenate(masks) if masks else np.zeros(0, np.uint32),
    }


def _ints(values: Any) -> NDArray[np.int32]:
    return np.array(values, np.int32)


def _floats(values: Any) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def _starts(lengths: Sequence[int]) -> NDArray[np.int32]:
    return _ints(np.cumsum([0, *lengths]))


def allocate(
    requests: Sequence[Request],
    tokens: int,
    block_size: int,
    blocks: int,
    *,
    sliding: int | None = None,
    chunk: int | None = None,
    window: int = WINDOW,
) -> None:
    """Gives each request blocks for its prompt and `tokens` more, far apart and out of order.

    Of the groups' `blocks` and `sliding` (as many if not given). With `chunk`, the most tokens that a step will compute of a
    request, its sliding blocks are no more than the window needs.
    """
    source = np.random.default_rng(0)
    free = source.permutation(blocks).tolist()
    free_sliding = source.permutation(sliding or blocks).tolist()
    for request in requests:
        needed = -(-(len(request.prompt) + tokens) // block_size)
        ring = needed if chunk is None else min(needed, -(-(window - 1 + chunk) // block_size) + 1)
        request.blocks = [free.pop() for _ in range(needed)]
        request.ring = [free_sliding.pop() for _ in range(ring)]


def step(runner: Runner, requests: Sequence[Request], counts: Sequence[int], block_size: int) -> Sampled:
    """Runs one step and appends what it sampled."""
    plan = plan_of(requests, counts, block_size)
    sampled = runner.execute(plan)
    for request, count in zip(requests, counts, strict=True):
        request.cached += count
    for at, target, token in zip(plan.rows, plan.targets, sampled.tokens, strict=True):
        if target < 0:
            requests[int(np.searchsorted(plan.query_starts, at, side="right")) - 1].output.append(int(token))
    return sampled


def generate(runner: "TorchRunner", requests: Sequence[Request], tokens: int, *, chunk: int, block_size: int = 16) -> None:
    """Runs all requests together until each has `tokens` output tokens, prefilling at most `chunk` of each a step."""
    allocate(requests, tokens, block_size, runner.kv_blocks, sliding=runner.sliding_blocks, chunk=chunk)
    while unfinished := [r for r in requests if len(r.output) < tokens]:
        step(runner, unfinished, [min(chunk, len(r.tokens) - r.cached) for r in unfinished], block_size)
