"""Choosing among candidates: pure functions, held against definitions written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.runner import sampling
from workers.runner.ragged import Ragged
from workers.runner.sampling import Settings, choose, head, heads, tops, uniforms

# Few distinct values, so that ties are common.
rows = st.lists(st.integers(-12, 12).map(lambda n: n / 4), min_size=1, max_size=60).map(lambda row: np.array(row, np.float32))


def head_by_definition(values: np.ndarray, masses: np.ndarray, target: float) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(values)), key=lambda i: (-values[i], i)):
        kept.append(index)
        if masses[kept].sum() >= target:
            break
    return sorted(kept)


@settings(max_examples=300)
@given(rows, st.integers(0, 80), st.sampled_from([1, 2, 7, 2048]))
def test_head(values: np.ndarray, target: int, few: int) -> None:
    """Masses that are whole numbers add up alike in any order; with few values sorted, the rest goes through bins."""
    masses = np.random.default_rng(len(values)).integers(0, 4, len(values)).astype(np.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "FEW", few)
        assert np.flatnonzero(head(values, masses, target)).tolist() == head_by_definition(values, masses, target)


@pytest.mark.parametrize("outliers", [[], [3e38, -3e38]], ids=len)
@pytest.mark.parametrize("spread", [0.0, 1e-44, 1e-30, 1.0, 1e30])
def test_head_of_many(spread: float, outliers: list[float]) -> None:
    """Far more values than are sorted: equal ones, normal ones, and some far from all others."""
    source = np.random.default_rng(1)
    values = (source.normal(0, 1, 50_000) * spread).astype(np.float32)
    values[[7, 40_000][: len(outliers)]] = outliers
    for target in (1, 2, 3, 3000, 49_999, 50_000, 60_000):
        expected = np.sort(np.argsort(-values, kind="stable")[:target])
        np.testing.assert_array_equal(np.flatnonzero(head(values, np.ones(50_000), target)), expected)


@given(rows, st.integers(1, 70), st.sampled_from([4, 2048]))
def test_tops_break_ties_by_index(row: np.ndarray, count: int, few: int) -> None:
    both = np.stack([row, row[::-1]])
    expected = [sorted(range(len(row)), key=lambda i: (-values[i], i))[:count] for values in both]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "FEW", few)
        assert tops(both, count).tolist() == expected


@settings(max_examples=300)
@given(st.lists(st.tuples(rows, st.integers(0, 80)), min_size=1, max_size=5), st.integers(0, 9), st.sampled_from([4, 2048]))
def test_heads_are_those_of_each_row(cases: list[tuple[np.ndarray, int]], more: int, few: int) -> None:
    """Of rows of any lengths, filled up; values that are no candidates count for nothing."""
    width = max(len(values) for values, _ in cases) + more
    values, among, masses = (
        np.full((len(cases), width), -np.inf),
        np.zeros((len(cases), width), bool),
        np.ones((len(cases), width)),
    )
    for number, (row, _) in enumerate(cases):
        values[number, : len(row)], among[number, : len(row)] = row, np.arange(len(row)) % 5 != 1
        masses[number] = np.random.default_rng(number).integers(0, 4, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "FEW", few)
        found = heads(values, masses, among, np.array([target for _, target in cases], float))
        for row, weights, inside, kept, (_, target) in zip(values, masses, among, found, cases, strict=True):
            assert not kept[~inside].any()
            assert kept[inside].tolist() == head(row[inside], weights[inside], target).tolist()


@given(st.lists(st.integers(0, 200), min_size=1, max_size=12), st.sampled_from([40, 1000]))
def test_ragged_rows_come_in_groups_of_like_lengths(lengths: list[int], most: int) -> None:
    flat, ragged = np.arange(sum(lengths) + 1), Ragged(np.concatenate([[0], np.cumsum(lengths)]))
    seen: list[int] = []
    for rows in ragged.groups(np.arange(len(lengths)), most):
        places, inside = ragged.places(rows)
        assert len(rows) == 1 or max(lengths[row] for row in rows) <= most
        assert all(places.shape[1] < max(2 * lengths[row], 65) for row in rows)
        for row, at, there in zip(rows, places, inside, strict=True):
            assert flat[at[there]].tolist() == list(range(ragged.starts[row], ragged.starts[row + 1]))
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(lengths)))


def drawn(values: np.ndarray, uniform: float, total: float, temperature: float = 1.0, **limits: float) -> int:
    """What is drawn from a row, which is the same with another beside it that makes its own longer."""
    both = np.stack([np.append(values, -np.inf), np.append(values, values[0])]).astype(np.float32)

    def settings_of(rows: int) -> Settings:
        columns = {"top_k": 0, "top_p": 1.0, "min_p": 0.0} | limits
        top_k, top_p, min_p = (np.full(rows, value) for value in columns.values())
        return Settings(np.full(rows, temperature), top_k.astype(np.int64), top_p.astype(float), min_p.astype(float))

    alone = choose(values[None], settings_of(1), np.array([uniform]), np.array([total]))
    beside = choose(both, settings_of(2), np.full(2, uniform), np.full(2, total))
    assert alone[0] == beside[0]
    return int(alone[0])


def test_top_p_is_a_part_of_what_top_k_leaves_and_min_p_comes_last() -> None:
    weights = np.array([0.4, 0.2, 0.2, 0.1, 0.1])
    values = np.log(weights).astype(np.float32)

    def kept(**limits: float) -> set[int]:
        return {drawn(values, uniform, 1 / 0.4, **limits) for uniform in np.arange(0, 1, 0.01)}

    assert kept() == {0, 1, 2, 3, 4}
    assert kept(top_k=3) == {0, 1, 2} and kept(top_k=2) == {0, 1}
    assert kept(top_p=0.55) == {0, 1} and kept(top_p=0.65) == {0, 1, 2} and kept(top_p=0.01) == {0}
    assert kept(top_k=3, top_p=0.7) == {0, 1} and kept(top_k=3, top_p=0.8) == {0, 1, 2}
    assert kept(min_p=0.3) == {0, 1, 2} and kept(min_p=1) == {0}
    assert kept(top_p=0.75, min_p=0.6) == {0}


def test_cold_draws_are_greedy() -> None:
    row = np.array([1.0, 50.0, -3.0, 49.0], np.float32)
    for temperature in (1e-45, 1e-30, 1e-3):
        assert {drawn(row, uniform, 1.0, temperature) for uniform in (0, 0.5, 1 - 2.0**-53)} == {1}


def test_uniform_is_splitmix64() -> None:
    """The generator's published first outputs for seed 1234567."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    found = uniforms(np.full(5, 1234567, np.uint64), np.arange(5, dtype=np.int32))
    assert found.tolist() == [(n >> 11) / 2**53 for n in published]


def test_uniform_takes_every_seed_and_position() -> None:
    found = uniforms(np.array([2**64 - 1, 0], np.uint64), np.array([2**31 - 1, 0], np.int32))
    assert ((found >= 0) & (found < 1)).all()


def test_uniform_is_uniform() -> None:
    across_positions = uniforms(np.full(20_000, 7, np.uint64), np.arange(20_000, dtype=np.int32))
    across_seeds = uniforms(np.arange(20_000, dtype=np.uint64), np.full(20_000, 3, np.int32))
    for sample in (across_positions, across_seeds):
        counts, _ = np.histogram(sample, 20, (0, 1))
        assert abs(counts - 1000).max() < 150
    assert abs(np.corrcoef(across_positions, across_seeds)[0, 1]) < 0.03
