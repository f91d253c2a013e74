"""The paged kernels against attention written out over one sequence's keys."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.driver import Request, allocate, plan_of
from workers.kernels import torch_paged, torch_splits
from workers.kernels.attention import MakeAttention
from workers.kernels.torch_paged import TorchPaged
from workers.kernels.torch_splits import TorchSplits
from workers.model.batch import Batch

HEADS, KV_HEADS, DIM, BLOCK, WINDOW = 4, 2, 8, 4, 10
CPU = torch.device("cpu")


def written_out(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, sinks: torch.Tensor, window: int | None
) -> torch.Tensor:
    """query [n, heads, d] are the last of the sequence's keys [L, kv_heads, d]; softmax with the sink as one more column."""
    length = len(keys)
    at, to = torch.arange(length - len(query), length)[:, None], torch.arange(length)[None]
    seen = (to <= at) if window is None else (to <= at) & (at - to < window)
    rows = []
    for head in range(HEADS):
        of = head // (HEADS // KV_HEADS)
        scores = (query[:, head] @ keys[:, of].t() / DIM**0.5).masked_fill(~seen, -torch.inf)
        column = sinks[head].expand(len(query), 1)
        rows.append(torch.softmax(torch.cat([scores, column], 1), 1)[:, :-1] @ values[:, of])
    return torch.stack(rows, 1)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30)), min_size=1, max_size=6),
    st.sampled_from([None, WINDOW]),
    st.sampled_from([1 << 10, 1 << 13, 1 << 24]),
    st.sampled_from([TorchPaged, TorchSplits]),
    st.sampled_from([4, 8, 128]),
)
def test_any_batch(lengths: list[tuple[int, int]], window: int | None, tile: int, make: MakeAttention, split: int) -> None:
    """Sequences with `cached` tokens and `new` ones, together in one step, with any size of tiles and splits.

    Sliding tables begin with the first block that the window shows, in memory that earlier ones had.
    """
    generator = torch.Generator().manual_seed(len(lengths))
    requests = [Request([0] * (cached + new), cached=cached) for cached, new in lengths]
    allocate(requests, 1, BLOCK, 128, chunk=30, window=WINDOW)
    plan = plan_of(requests, [new for _, new in lengths], BLOCK, WINDOW)
    batch = Batch.of(plan, CPU)
    cache = torch.full((2, KV_HEADS, 128, BLOCK, DIM), 1e9)  # what a masked slot must not let through
    cache[0] = torch.nan
    query = torch.randn(len(batch.tokens), HEADS, DIM, generator=generator)
    sinks = torch.randn(HEADS, generator=generator)
    expected = []
    for request, (start, stop) in zip(
        requests, zip(batch.plan.query_starts, batch.plan.query_starts[1:], strict=False), strict=True
    ):
        keys, values = torch.randn(2, len(request.prompt), KV_HEADS, DIM, generator=generator)
        at = torch.arange(len(request.prompt))
        table = torch.tensor(request.blocks if window is None else request.ring)
        if window is not None:
            at = at[max(0, len(at) - len(table) * BLOCK) :]  # later ones take the place of earlier ones
        slots = table[at // BLOCK % len(table)] * BLOCK + at % BLOCK
        cache.flatten(2, 3)[:, :, slots] = torch.stack([keys[at], values[at]]).transpose(1, 2)
        expected.append(written_out(query[start:stop], keys, values, sinks, window))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_paged, "TILE", tile)
        patch.setattr(torch_splits, "TILE", tile)
        patch.setattr(torch_splits, "SPLIT", split)
        kernel = make(heads=HEADS, kv_heads=KV_HEADS, head_dim=DIM, block_size=BLOCK, window=WINDOW)
        found = kernel.prepare(batch).attend(query, cache[0], cache[1], sinks, window)
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_decodes_share_tiles() -> None:
    """32 decodes cost one tile in a sliding layer and few in a full one, however long each is."""
    requests = [Request([0] * (20 + 37 * n), cached=19 + 37 * n) for n in range(32)]
    allocate(requests, 1, BLOCK, 8192)
    batch = Batch.of(plan_of(requests, [1] * 32, BLOCK, WINDOW), CPU)
    step = TorchPaged(heads=HEADS, kv_heads=KV_HEADS, head_dim=DIM, block_size=BLOCK, window=WINDOW).prepare(batch)
    assert len(step.sliding) <= 2 and len(step.full) <= 8
    assert sorted(np.concatenate([tile.rows.flatten() for tile in step.full])) == list(range(32))
