"""Makes plans by hand: prefill in chunks, then decode, for several sequences at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from workers.engine.plan import Plan, Runner, Sampled


@dataclass
class Request:
    """A prompt and how to sample after it. `output` grows; `blocks` is its block table."""

    prompt: Sequence[int]
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    logprobs: int = -1
    output: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    cached: int = 0

    @property
    def tokens(self) -> list[int]:
        return [*self.prompt, *self.output]


def plan_of(requests: Sequence[Request], counts: Sequence[int], block_size: int) -> Plan:
    """One step in which request i computes its next `counts[i]` tokens; those that reach their end are sampled."""
    parts = list(zip(requests, counts, strict=True))
    positions = [np.arange(r.cached, r.cached + n) for r, n in parts]
    slots = [r.blocks[p // block_size] * block_size + p % block_size for r, n in parts for p in range(r.cached, r.cached + n)]
    ends = [r.cached + n for r, n in parts]
    sampled = [i for i, (r, _) in enumerate(parts) if ends[i] == len(r.tokens)]
    chosen = [requests[i] for i in sampled]

    def ints(values: Sequence[int]) -> np.ndarray:
        return np.array(values, np.int32)

    return Plan(
        tokens=ints([t for (r, n) in parts for t in r.tokens[r.cached : r.cached + n]]),
        positions=np.concatenate(positions).astype(np.int32),
        slots=np.array(slots, np.int32),
        query_starts=ints(np.cumsum([0, *counts]).tolist()),
        context_lengths=ints(ends),
        block_ids=ints([block for r in requests for block in r.blocks]),
        block_starts=ints(np.cumsum([0, *(len(r.blocks) for r in requests)]).tolist()),
        sampled=ints(sampled),
        temperatures=np.array([r.temperature for r in chosen], np.float32),
        top_ps=np.array([r.top_p for r in chosen], np.float32),
        top_ks=ints([r.top_k for r in chosen]),
        seeds=np.array([r.seed for r in chosen], np.uint64),
        output_positions=ints([len(r.output) for r in chosen]),
        logprobs=ints([r.logprobs for r in chosen]),
    )


def allocate(requests: Sequence[Request], tokens: int, block_size: int, blocks: int) -> None:
    """Gives each request blocks for its prompt and `tokens` more, far apart and out of order."""
    free = np.random.default_rng(0).permutation(blocks).tolist()
    for request in requests:
        request.blocks = [free.pop() for _ in range(-(-(len(request.prompt) + tokens) // block_size))]


def step(runner: Runner, requests: Sequence[Request], counts: Sequence[int], block_size: int) -> Sampled:
    """Runs one step and appends what it sampled."""
    plan = plan_of(requests, counts, block_size)
    sampled = runner.execute(plan)
    for request, count in zip(requests, counts, strict=True):
        request.cached += count
    for index, token in zip(plan.sampled, sampled.tokens, strict=True):
        requests[index].output.append(int(token))
    return sampled


def generate(
    runner: Runner, requests: Sequence[Request], tokens: int, *, chunk: int, block_size: int = 16, blocks: int = 256
) -> None:
    """Runs all requests together until each has `tokens` output tokens, prefilling at most `chunk` of each a step."""
    allocate(requests, tokens, block_size, blocks)
    while unfinished := [r for r in requests if len(r.output) < tokens]:
        step(runner, unfinished, [min(chunk, len(r.tokens) - r.cached) for r in unfinished], block_size)
