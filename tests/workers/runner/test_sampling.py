"""Drawing a token: a pure function of row, settings, seed and position, held against definitions written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.runner.sampling import Settings, draw, top, uniform

# Few distinct values, so that ties are common.
rows = st.lists(st.integers(-12, 12).map(lambda n: n / 4), min_size=1, max_size=60).map(lambda row: np.array(row, np.float32))
seeds = st.integers(0, 2**64 - 1)


def kept_by_definition(row: np.ndarray, temperature: float, top_p: float, top_k: int) -> tuple[list[int], np.ndarray]:
    """The ids that may be drawn, ascending, and their weights."""
    weights = np.exp((row.astype(np.float64) - row.max()) / temperature)
    ranked = sorted(range(len(row)), key=lambda i: (-row[i], i))[: top_k or None]
    total, reached, kept = weights[ranked].sum(), 0.0, []
    for i in ranked:
        kept.append(i)
        reached += weights[i]
        if reached >= top_p * total * (1 - 1e-12):
            break
    return sorted(kept), weights[sorted(kept)]


@given(rows, st.floats(0.05, 3), st.floats(0.01, 1), st.integers(0, 70), seeds, st.integers(0, 10**6))
def test_draw_follows_the_definition(
    row: np.ndarray, temperature: float, top_p: float, top_k: int, seed: int, position: int
) -> None:
    kept, weights = kept_by_definition(row, temperature, top_p, top_k)
    token = draw(row, Settings(temperature, top_p, top_k, seed, position))
    reached = np.cumsum(weights) / weights.sum()
    place, u = kept.index(token), uniform(seed, position)
    assert (reached[place - 1] if place else 0) - 1e-9 <= u <= reached[place] + 1e-9


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 0.99), st.floats(0.2, 30))
def test_long_rows_need_no_full_sort(seed: int, top_p: float, temperature: float) -> None:
    """Rows longer than the candidates that are tried first: flat ones fall back."""
    row = np.random.default_rng(seed).normal(0, 4, 9000).astype(np.float32)
    kept, weights = kept_by_definition(row, temperature, top_p, 0)
    token = draw(row, Settings(temperature, top_p, 0, seed, 0))
    assert token == kept[int(np.searchsorted(np.cumsum(weights), uniform(seed, 0) * weights.sum(), side="right"))]


@pytest.mark.parametrize("length", [511, 512, 513, 9000])
def test_long_rows_are_summed_in_runs(length: int) -> None:
    row = np.random.default_rng(length).normal(0, 2, length).astype(np.float32)
    reached = np.cumsum(np.exp(row.astype(np.float64) - row.max()))
    for seed in range(50):
        expected = int(np.searchsorted(reached, uniform(seed, 0) * reached[-1], side="right"))
        assert draw(row, Settings(1.0, 1.0, 0, seed, 0)) == expected


@given(rows, st.integers(0, 70))
def test_top_breaks_ties_by_id(row: np.ndarray, count: int) -> None:
    assert top(row, count).tolist() == sorted(range(len(row)), key=lambda i: (-row[i], i))[:count]


def test_frequencies_follow_probabilities() -> None:
    row = np.log(np.array([0.5, 0.25, 0.125, 0.125], np.float32))
    counts = np.bincount([draw(row, Settings(1.0, 1.0, 0, 42, position)) for position in range(8000)], minlength=4)
    np.testing.assert_allclose(counts / 8000, [0.5, 0.25, 0.125, 0.125], atol=0.02)


def test_uniform_is_splitmix64() -> None:
    """The generator's published first outputs for seed 1234567."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert [uniform(1234567, position) for position in range(5)] == [(n >> 11) / 2**53 for n in published]


def test_uniform_is_uniform() -> None:
    across_positions = [uniform(7, n) for n in range(20_000)]
    across_seeds = [uniform(n, 3) for n in range(20_000)]
    for sample in (across_positions, across_seeds):
        counts, _ = np.histogram(sample, 20, (0, 1))
        assert abs(counts - 1000).max() < 150
    assert abs(np.corrcoef(across_positions, across_seeds)[0, 1]) < 0.03


@pytest.mark.parametrize("temperature", [1e-30, 1e-3])
def test_cold_draws_are_greedy(temperature: float) -> None:
    row = np.array([1.0, 50.0, -3.0, 49.0], np.float32)
    assert {draw(row, Settings(temperature, 1.0, 0, seed, 0)) for seed in range(50)} == {1}


def test_extreme_rows() -> None:
    row = np.full(300, -np.inf, np.float32)
    row[[3, 200]] = 0.0
    assert {draw(row, Settings(1.0, 1.0, 0, seed, 0)) for seed in range(40)} == {3, 200}
    assert {draw(row, Settings(1.0, 0.4, 0, seed, 0)) for seed in range(40)} == {3}
