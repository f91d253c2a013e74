"""Turns what the scheduler chose into the arrays of a Plan."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workers.engine.plan import Plan
from workers.engine.request import Request


@dataclass(frozen=True)
class Chunk:
    """Tokens `start` to `stop` of a request, run in one step. Made, used and dropped between two changes of the request."""

    request: Request
    start: int
    stop: int

    @property
    def samples(self) -> bool:
        """The chunk ends with the last token there is, so the next one is sampled."""
        return self.stop == self.request.length


def assemble(chunks: Sequence[Chunk], block_size: int) -> Plan:
    """The plan that runs the chunks; no chunks make the idle plan."""
    if not chunks:
        return Plan.idle()
    tables = [np.array(chunk.request.blocks, np.int32) for chunk in chunks]
    positions = [np.arange(chunk.start, chunk.stop, dtype=np.int32) for chunk in chunks]
    slots = [table[at // block_size] * block_size + at % block_size for table, at in zip(tables, positions, strict=True)]
    sampled = [(index, chunk.request) for index, chunk in enumerate(chunks) if chunk.samples]
    requests = [request for _, request in sampled]
    return Plan(
        tokens=np.concatenate([np.array(chunk.request.tokens(chunk.start, chunk.stop), np.int32) for chunk in chunks]),
        positions=np.concatenate(positions),
        slots=np.concatenate(slots).astype(np.int32),
        query_starts=_starts([chunk.stop - chunk.start for chunk in chunks]),
        context_lengths=np.array([chunk.stop for chunk in chunks], np.int32),
        block_ids=np.concatenate(tables),
        block_starts=_starts([len(table) for table in tables]),
        sampled=np.array([index for index, _ in sampled], np.int32),
        temperatures=np.array([request.sampling.temperature for request in requests], np.float32),
        top_ps=np.array([request.sampling.top_p for request in requests], np.float32),
        top_ks=np.array([request.sampling.top_k for request in requests], np.int32),
        seeds=np.array([request.sampling.seed for request in requests], np.uint64),
        output_positions=np.array([len(request.output) for request in requests], np.int32),
        logprobs=np.array([request.sampling.logprobs for request in requests], np.int32),
    )


def _starts(lengths: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
