"""Turns what the scheduler chose into the arrays of a Plan."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.engine.adjustments import NO_IDS, NO_VALUES, Values
from workers.engine.chunk import Chunk
from workers.engine.grammar import Allowed, Below, Later, Mask
from workers.engine.ints import Array
from workers.engine.limits import Limits
from workers.engine.masks import Compute, Job, at_once
from workers.engine.plan import Filling, Plan
from workers.engine.sampling import Sampling

ALL = Below(-1, -1)  # of rows whose ids are not bounded
SCORING = Sampling(temperature=0.0)  # of rows that draw no token


class Row(NamedTuple):
    """The logits of token `at` of the step, and how they are used."""

    at: int
    sampling: Sampling
    logprobs: int
    target: int = -1
    position: int = 0
    seen: Array = NO_IDS
    bias_ids: Array = NO_IDS
    bias_values: Values = NO_VALUES
    mask: Allowed | Later = None

    @property
    def below(self) -> Below:
        return self.mask if isinstance(self.mask, Below) else ALL


def assemble(chunks: Sequence[Chunk], limits: Limits, compute: Compute = at_once) -> Plan:
    """The plan that runs the chunks, whose masks `compute` has begun to fill in; no chunks make the idle plan."""
    if not chunks:
        return Plan.idle()
    geometry, lengths = limits.geometry, [chunk.length for chunk in chunks]
    starts, firsts = _starts(lengths), np.array([geometry.first(chunk.start) for chunk in chunks], np.int32)
    positions = np.concatenate([np.arange(chunk.start, chunk.start + chunk.length, dtype=np.int32) for chunk in chunks])
    full, sliding = [chunk.request.blocks.array for chunk in chunks], [chunk.request.sliding for chunk in chunks]
    full_starts, sliding_starts = _starts([len(table) for table in full]), _starts([len(table) for table in sliding])
    full_ids, sliding_ids = np.concatenate(full), np.array([block for table in sliding for block in table], np.int32)
    numbers, offsets = np.divmod(positions, np.int32(geometry.block_size))
    rows = [row for chunk, first in zip(chunks, starts.tolist(), strict=False) for row in _rows(chunk, first)]
    masks, mask_rows, wait = _masks(rows, -(-limits.vocab_size // 32), compute)
    samplings, belows = [row.sampling for row in rows], [row.below for row in rows]
    ats, targets, places, logprobs = _columns([(row.at, row.target, row.position, row.logprobs) for row in rows], 4, np.int32)
    temperatures, top_ps, min_ps, repetitions = _columns(
        [(one.temperature, one.top_p, one.min_p, one.repetition_penalty) for one in samplings], 4, np.float32
    )
    below, ends = _columns(belows, 2, np.int32)
    return Filling(
        tokens=np.concatenate([_tokens(chunk) for chunk in chunks]),
        positions=positions,
        query_starts=starts,
        context_lengths=positions[starts[1:] - 1] + 1,
        slots=full_ids[np.repeat(full_starts[:-1], lengths) + numbers] * geometry.block_size + offsets,
        block_ids=full_ids,
        block_starts=full_starts,
        sliding_slots=sliding_ids[np.repeat(sliding_starts[:-1] - firsts, lengths) + numbers] * geometry.block_size + offsets,
        sliding_ids=sliding_ids,
        sliding_starts=sliding_starts,
        sliding_firsts=firsts,
        rows=ats,
        targets=targets,
        temperatures=temperatures,
        top_ps=top_ps,
        top_ks=np.array([one.top_k for one in samplings], np.int32),
        min_ps=min_ps,
        seeds=np.array([one.seed for one in samplings], np.uint64),
        output_positions=places,
        logprobs=logprobs,
        repetitions=repetitions,
        seen_ids=np.concatenate([NO_IDS, *(row.seen for row in rows)]),
        seen_starts=_starts([len(row.seen) for row in rows]),
        bias_ids=np.concatenate([NO_IDS, *(row.bias_ids for row in rows)]),
        bias_values=np.concatenate([NO_VALUES, *(row.bias_values for row in rows)]),
        bias_starts=_starts([len(row.bias_ids) for row in rows]),
        below=below,
        ends=ends,
        mask_rows=mask_rows,
        masks=masks,
        wait=wait,
    )


def _tokens(chunk: Chunk) -> Array:
    tokens = chunk.request.tokens.array[chunk.start : chunk.stop]
    return np.concatenate([tokens, np.array(chunk.drafts.tokens, np.int32)]) if chunk.drafts.tokens else tokens


def _rows(chunk: Chunk, first: int) -> Iterator[Row]:
    """The chunk's rows, `first` being its first token in the step."""
    request = chunk.request
    for number in chunk.scores:
        target = int(request.tokens.array[number + 1])
        yield Row(first + number - chunk.start, SCORING, request.sampling.prompt_logprobs, target)
    if chunk.samples:
        yield from _sampled(chunk, first + chunk.stop - chunk.start - 1)


def _sampled(chunk: Chunk, at: int) -> list[Row]:
    """The rows to sample from, `at` being the last token that is no draft."""
    request, drafts, position = chunk.request, chunk.drafts, len(chunk.request.output)
    rows = []
    for index, mask in enumerate(drafts.masks or (request.mask,)):
        row = Row(at + index, request.sampling, request.sampling.logprobs, -1, position + index, mask=mask)
        if request.adjustments is not None:
            ids, values = request.adjustments.bias(row.position)
            row = row._replace(seen=request.adjustments.seen, bias_ids=ids, bias_values=values)
            if index < len(drafts.tokens):
                request.adjustments.add(drafts.tokens[index])
        rows.append(row)
    if request.adjustments is not None:
        for token in drafts.tokens:
            request.adjustments.add(token, -1)
    return rows


def _masks(rows: Sequence[Row], words: int, compute: Compute) -> tuple[Mask, Array, Callable[[], None]]:
    """Each different mask once, which of them each row has, and what waits until all are there."""
    masks = {id(row.mask): row.mask for row in rows if isinstance(row.mask, np.ndarray | Later)}
    numbers = {key: number for number, key in enumerate(masks)}
    packed = np.empty((len(masks), words), np.uint32)
    later: list[Job] = []
    for mask, place in zip(masks.values(), packed, strict=True):
        if isinstance(mask, Later):
            later.append((mask, place))
        else:
            place[:] = mask
    return packed.reshape(-1), np.array([numbers.get(id(row.mask), -1) for row in rows], np.int32), compute(later)


def _columns(rows: Sequence[Sequence[float]], count: int, dtype: type) -> NDArray[Any]:
    """[count, N] of so many values a row."""
    return np.ascontiguousarray(np.array(rows, dtype).reshape(-1, count).T)


def _starts(lengths: Sequence[int]) -> Array:
    return np.array([0, *accumulate(lengths)], np.int32)
