"""From logits to tokens, on one rank and on several, held against a definition written out over the whole vocabulary."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.driver import Request, Row, samplings
from tests.workers.runner.shares import sample
from workers.engine.batch import ALL
from workers.engine.grammar import Below, spelled
from workers.engine.plan import Plan, Sampled
from workers.runner import logits as share_logits
from workers.runner.rows import cut, joined
from workers.runner.sampling import uniforms

DRAWS = 5000
CLOSE = 1e-5  # of the whole probability: how near to a border a draw may fall on either side


def plan_of(requests: Sequence[Request], targets: Sequence[int] = ()) -> Plan:
    """A plan as the sampler sees it: rows without tokens."""
    aims = [*targets, *[-1] * (len(requests) - len(targets))]
    rows = [Row(at, request, target) for at, (request, target) in enumerate(zip(requests, aims, strict=True))]
    return replace(Plan.idle(), **samplings(rows))


def mask_of(allowed: Sequence[int], vocabulary: int) -> np.ndarray:
    bits = np.zeros(-(-vocabulary // 32) * 32, np.uint8)
    bits[list(allowed)] = 1
    return np.packbits(bits, bitorder="little").view(np.uint32)


def adjusted(row: np.ndarray, request: Request) -> np.ndarray:
    row = row.copy()
    for token in set(request.seen):
        by = np.float32(request.repetition)
        row[token] = row[token] / by if row[token] > 0 else row[token] * by
    for token, value in request.bias.items():
        row[token] += np.float32(value)
    row[~spelled(None if request.below == ALL else request.below, len(row))] = -np.inf
    if request.mask is not None:
        row[np.unpackbits(request.mask.view(np.uint8), bitorder="little")[: len(row)] == 0] = -np.inf
    return row


def kept(row: np.ndarray, request: Request, top_p: float) -> tuple[np.ndarray, np.ndarray]:
    """The ids that may be drawn, ascending, and the weights of all."""
    weights = np.exp((row.astype(np.float64) - row.max()) / float(np.float32(request.temperature)))
    ranked = np.argsort(-row, kind="stable")[: request.top_k or None]
    reached, nucleus = np.cumsum(weights[ranked]), len(ranked)
    if top_p < 1:
        nucleus = int((reached < top_p * reached[-1]).sum()) + 1
    ids = np.sort(ranked[:nucleus])
    return ids[weights[ids] >= np.float32(request.min_p)], weights


def right(row: np.ndarray, request: Request, token: int) -> bool:
    """Whether the definition yields this token, or could with the last bits of its sums rounded otherwise."""
    row = adjusted(row, request)
    if row.max() == -np.inf:
        return token == -2
    if request.temperature == 0:
        return token == int(row.argmax())
    u = uniforms(np.array([request.seed], np.uint64), np.array([len(request.output)], np.int32))[0]
    for top_p in (request.top_p, request.top_p - CLOSE, min(1.0, request.top_p + CLOSE)):
        ids, weights = kept(row, request, top_p)
        if token in ids:
            reached = np.cumsum(weights[ids]) / weights[ids].sum()
            place = int(np.searchsorted(ids, token))
            if (reached[place - 1] if place else 0) - CLOSE <= u <= reached[place] + CLOSE and weights[token] > 0:
                return True
    return False


@st.composite
def _steps(draw: st.DrawFn) -> tuple[np.ndarray, list[Request]]:
    """Rows of few distinct logits, so that ties are common, and requests that ask for anything."""
    vocabulary = draw(st.sampled_from([3, 40, 128, 300, 517]))
    ids = st.integers(0, vocabulary - 1)
    belows = st.just(ALL) | st.builds(Below, ids, ids)
    source = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def request() -> Request:
        allowed = draw(st.none() | st.lists(ids, max_size=9) | st.just(range(vocabulary)))
        return Request(
            [],
            temperature=draw(st.sampled_from([0.0, 1e-30, 0.3, 1.0, 1.0, 2.0])),
            top_p=draw(st.sampled_from([1.0, 1.0, 0.9, 0.5, 0.01])),
            top_k=draw(st.sampled_from([0, 0, 1, 3, 50, vocabulary - 1, vocabulary, 1000])),
            min_p=draw(st.sampled_from([0.0, 0.0, 0.05, 0.5, 1.0])),
            seed=draw(st.integers(0, 2**64 - 1)),
            repetition=draw(st.sampled_from([1.0, 1.0, 1.3, 0.5])),
            seen=draw(st.lists(ids, max_size=8)),
            bias=draw(st.dictionaries(ids, st.sampled_from([-np.inf, -100.0, -0.5, 0.25, 5.0, 100.0]), max_size=5)),
            mask=None if allowed is None else mask_of(list(allowed), vocabulary),
            below=draw(belows),
            logprobs=draw(st.sampled_from([-1, -1, 0, 2, 20])),
            output=[0] * draw(st.integers(0, 5)),
        )

    requests = [request() for _ in range(draw(st.integers(1, 6)))]
    return (source.integers(-12, 13, (len(requests), vocabulary)) / 4).astype(np.float32), requests


@settings(max_examples=150, deadline=None)
@given(_steps(), st.integers(1, 3))
def test_any_step(step: tuple[np.ndarray, list[Request]], ranks: int) -> None:
    logits, requests = step
    found = sample(torch.from_numpy(logits), plan_of(requests), ranks)
    for n, (row, request) in enumerate(zip(logits, requests, strict=True)):
        token = int(found.tokens[n])
        assert right(row, request, token), (n, token)
        check_logprobs(row, request.logprobs, found, n)


def check_logprobs(row: np.ndarray, asked: int, found: Sampled, n: int) -> None:
    token = int(found.tokens[n])
    if asked < 0 or token < 0:
        assert found.logprobs[n] == 0 and len(found.top_ids[n]) == len(found.top_logprobs[n]) == 0
        return
    expected = row - np.log(np.exp(row.astype(np.float64)).sum())
    best = np.argsort(-row, kind="stable")[:asked]
    assert found.top_ids[n].tolist() == best.tolist()
    np.testing.assert_allclose(found.logprobs[n], expected[token], atol=1e-5)
    np.testing.assert_allclose(found.top_logprobs[n], expected[best], atol=1e-5)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_targets(ranks: int) -> None:
    """Log probabilities of given tokens, between rows that are drawn."""
    logits = np.random.default_rng(0).normal(0, 3, (6, 500)).astype(np.float32)
    requests = [Request([], prompt_logprobs=2), Request([], prompt_logprobs=0), Request([], prompt_logprobs=20)]
    requests += [Request([], temperature=1.0, logprobs=3), Request([]), Request([], temperature=1.0, top_k=5)]
    found = sample(torch.from_numpy(logits), plan_of(requests, [499, 0, 250]), ranks)
    assert found.tokens[:3].tolist() == [499, 0, 250]
    for n, asked in enumerate((2, 0, 20, 3, -1, -1)):
        check_logprobs(logits[n], asked, found, n)
    assert all(right(logits[n], requests[n], int(found.tokens[n])) for n in (3, 4, 5))


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_yield_no_token(value: float, ranks: int) -> None:
    logits = np.zeros((6, 300), np.float32)
    logits[:5, 290] = value
    logits[5, 7] = 1
    requests = [Request([]), Request([], temperature=1.0), Request([], temperature=1.0, top_p=0.5, logprobs=2)]
    requests += [Request([], temperature=1.0, bias={1: 2.0}), Request([], prompt_logprobs=1), Request([], temperature=0.01)]
    plan = replace(plan_of(requests), targets=np.array([-1, -1, -1, -1, 3, -1], np.int32))
    plan = replace(plan, logprobs=np.array([-1, -1, 2, -1, 1, -1], np.int32))
    found = sample(torch.from_numpy(logits), plan, ranks)
    assert found.tokens.tolist() == [-1, -1, -1, -1, -1, 7]
    assert [len(ids) for ids in found.top_ids] == [0] * 6


@pytest.mark.parametrize("ranks", [1, 2])
def test_where_nothing_is_allowed(ranks: int) -> None:
    logits = np.zeros((5, 70), np.float32)
    nothing = mask_of([], 70)
    requests = [Request([], mask=nothing), Request([], mask=nothing, temperature=1.0, logprobs=2)]
    requests += [Request([], mask=mask_of([69], 70), bias={69: -np.inf}, temperature=1.0, top_k=3)]
    requests += [Request([], mask=mask_of([69], 70), temperature=1.0, top_p=0.2)]
    requests += [Request([], below=Below(0, 69), bias={69: -np.inf})]
    found = sample(torch.from_numpy(logits), plan_of(requests), ranks)
    assert found.tokens.tolist() == [-2, -2, -2, 69, -2]


def test_a_share_without_any_allowed_id() -> None:
    logits = np.random.default_rng(2).normal(0, 2, (40, 300)).astype(np.float32)
    requests = [Request([], temperature=1.0, seed=n, mask=mask_of(range(210, 260), 300)) for n in range(20)]
    requests += [replace(request, top_p=0.9) for request in requests]
    found = sample(torch.from_numpy(logits), plan_of(requests), 3)
    assert all(right(*case) for case in zip(logits, requests, found.tokens.tolist(), strict=True))


@pytest.mark.parametrize(
    ("limits", "ranks"), [({}, 1), ({}, 4), ({"top_k": 6}, 1), ({"top_p": 0.8}, 4), ({"min_p": 0.1}, 1)], ids=str
)
def test_draws_follow_the_distribution(limits: dict[str, Any], ranks: int) -> None:
    """The statistic of Pearson's test over many draws; its 99.99th percentile for 11 degrees of freedom is 39."""
    row = np.random.default_rng(5).normal(0, 1, 12).astype(np.float32)
    requests = [Request([], temperature=0.7, seed=n, **limits) for n in range(DRAWS)]
    found = sample(torch.from_numpy(row).repeat(DRAWS, 1), plan_of(requests), ranks)
    ids, weights = kept(row, requests[0], requests[0].top_p)
    expected = DRAWS * weights[ids] / weights[ids].sum()
    counts = np.bincount(found.tokens, minlength=12)
    assert counts.sum() == counts[ids].sum(), "an id that is not kept was drawn"
    assert ((counts[ids] - expected) ** 2 / expected).sum() < 39


def requests_of_all_kinds(vocabulary: int) -> list[Request]:
    source = np.random.default_rng(3)
    some = source.integers(0, vocabulary, 30_000).tolist()
    kinds: list[dict[str, Any]] = [
        {},
        {"temperature": 1.0},
        {"temperature": 1.0, "top_p": 0.9},
        {"temperature": 3.0, "top_p": 0.95},
        {"temperature": 0.7, "top_k": 40, "top_p": 0.9, "logprobs": 5},
        {"temperature": 1.0, "min_p": 0.02, "repetition": 1.2, "seen": some[:50]},
        {"logprobs": 20, "bias": {some[0]: 3.0, some[1]: -100.0}},
        {"temperature": 1.0, "mask": mask_of(some, vocabulary), "logprobs": 0},
        {"temperature": 2.0, "top_k": 5000},
        {"temperature": 1.0, "below": Below(vocabulary - 1000, vocabulary - 7)},
    ]
    return [Request([], seed=n, **kind) for n, kind in enumerate(kinds)]


def bits(found: Sampled, n: int) -> list[Any]:
    return [found.tokens[n], found.logprobs[n], found.top_ids[n].tolist(), found.top_logprobs[n].tolist()]


@pytest.mark.parametrize("vocabulary", [201_088, 50_001])
def test_a_row_alone_and_among_others(vocabulary: int) -> None:
    """To the last bit, whichever rows there are and wherever the row stands; and each is right."""
    requests = requests_of_all_kinds(vocabulary)
    logits = torch.randn(len(requests), vocabulary, generator=torch.Generator().manual_seed(1)) * 3
    together = sample(logits, plan_of(requests))
    backwards = sample(logits.flip(0), plan_of(requests[::-1]))
    plan = plan_of(requests)
    parts = [sample(logits[start : start + 2], cut(plan, start, start + 2)) for start in range(0, len(requests), 2)]
    sliced = joined(parts)
    for n, request in enumerate(requests):
        alone = sample(logits[n : n + 1], plan_of([request]))
        assert bits(together, n) == bits(alone, 0) == bits(backwards, len(requests) - 1 - n) == bits(sliced, n)
        row = logits[n].numpy()
        assert right(row, request, int(together.tokens[n]))
        check_logprobs(row, request.logprobs, together, n)


def test_flat_rows() -> None:
    """Where candidates are most of a large vocabulary, all equal or nearly so."""
    logits = torch.zeros(4, 60_000)
    logits[2:] = torch.randn(2, 60_000, generator=torch.Generator().manual_seed(4)) * 1e-3
    requests = [Request([], temperature=1.0, top_p=0.5, seed=1), Request([], temperature=1.0, top_k=20_000, seed=2)]
    requests += [Request([], temperature=1.0, top_p=0.99, seed=3), Request([], temperature=1.0, top_k=700, top_p=0.5, seed=4)]
    found = sample(logits, plan_of(requests), 2)
    assert found.tokens[0] < 30_001 and found.tokens[1] < 20_000
    assert all(right(*case) for case in zip(logits.numpy(), requests, found.tokens.tolist(), strict=True))


def test_work_is_done_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = requests_of_all_kinds(3000)
    logits = torch.randn(len(requests), 3000, generator=torch.Generator().manual_seed(6))
    expected = sample(logits, plan_of(requests))
    monkeypatch.setattr(share_logits, "SCRATCH", 1 << 10)
    found = sample(logits, plan_of(requests))
    assert all(bits(found, n) == bits(expected, n) for n in range(len(requests)))
