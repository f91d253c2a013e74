"""Memory is divided so that what may run does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.capacity import least, split
from workers.engine.geometry import Geometry

sizes = st.integers(1, 1 << 20)


@given(st.integers(0, 1 << 36), sizes, sizes, st.integers(1, 64), st.integers(1, 256), st.integers(1, 64), st.data())
def test_both_groups_fit_the_memory_and_one_request_of_any_length_fits_them(
    memory: int, full_bytes: int, sliding_bytes: int, block_size: int, window: int, sequences: int, data: st.DataObject
) -> None:
    budget, context = data.draw(st.integers(sequences, 4096)), data.draw(st.integers(1, 1 << 17))
    geometry = Geometry(block_size, window)
    alone = geometry.entitled + geometry.blocks(min(budget, context))
    assert least(full_bytes, sliding_bytes, geometry, budget, context) == (
        geometry.blocks(context) * full_bytes + alone * sliding_bytes
    )
    try:
        full, sliding = split(memory, full_bytes, sliding_bytes, block_size, window, sequences, budget, context)
    except ValueError:
        assert memory < geometry.blocks(context) * full_bytes + alone * sliding_bytes
        return
    assert full * full_bytes + sliding * sliding_bytes <= memory
    assert full >= geometry.blocks(context)
    assert sliding >= alone
    left = memory - full * full_bytes - sliding * sliding_bytes
    assert left < max(full_bytes, sliding_bytes) + full_bytes


def test_gpt_oss_120b_in_20_gib() -> None:
    """18 layers of each kind, 2,048 bytes a token and layer."""
    block = 18 * 2048 * 16
    full, sliding = split(20 << 30, block, block, 16, 128, 64, 2048, 131072)
    assert (full + sliding) * block <= 20 << 30 < (full + sliding + 2) * block
    assert sliding >= 64 * 9 + 128  # all of them run while one prefills
    assert sliding < full / 5  # and what is left holds context above all


def test_what_cannot_hold_one_request_is_refused_with_what_it_takes() -> None:
    with pytest.raises(ValueError, match=r"8.0 MiB a rank cannot hold one request of 131072 tokens, which takes 8.1 MiB"):
        split(8 << 20, 1024, 1024, 16, 128, 64, 2048, 131072)


def test_a_model_without_sliding_layers_gives_all_memory_to_context() -> None:
    full, sliding = split(100 * 4096, 4096, 0, 16, 1, max_sequences=8, token_budget=64, max_context=256)
    assert full == 100
    assert sliding == 8 * Geometry(16, 1).entitled + 4  # they take no memory
    assert split(1000 * 4096, 0, 4096, 16, 128, max_sequences=8, token_budget=64, max_context=256)[1] >= 999
