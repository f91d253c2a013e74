"""Every layout yields transformers' greedy tokens in float32, with real processes, chunked prefill and several sequences."""

from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.driver import Request, allocate, generate, step
from tests.workers.runner.gang import run
from tests.workers.tiny import TINY, continuation, logits, oracle, write
from workers.model.layout import Layout
from workers.runner.build import build
from workers.runner.runner import TorchRunner
from workers.runner.spec import RunnerSpec

TOKENS = 12
LAYOUTS = [Layout(2, "ep"), Layout(4, "tp")]  # every other one is held to the same over HTTP, in tests/e2e/test_layouts.py
GENERATOR = torch.Generator().manual_seed(5)
PROMPTS = [torch.randint(0, TINY.vocab_size, (length,), generator=GENERATOR).tolist() for length in (4, 150, 290)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("layouts"))


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Any:
    return oracle(checkpoint)


@pytest.fixture(scope="module")
def expected(model: Any) -> list[list[int]]:
    outputs = [continuation(model, prompt, TOKENS) for prompt in PROMPTS]
    assert all(len(set(output)) > TOKENS // 2 for output in outputs), "tokens that repeat prove little"
    return outputs


@pytest.fixture(scope="module")
def sampled(checkpoint: Path) -> list[int]:
    """One rank's seeded output."""
    request = drawn()
    generate(build(spec(checkpoint, Layout()), 0, None), [request], TOKENS, chunk=100)
    return request.output


def spec(checkpoint: Path, layout: Layout) -> RunnerSpec:
    return RunnerSpec(str(checkpoint), layout, kv_memory=32 << 20, max_context=512, max_sequences=8)


def drawn() -> Request:
    return Request(PROMPTS[1], temperature=0.8, top_p=0.9, seed=11)


def lead(runner: TorchRunner, pipe: Connection) -> list[list[int]]:
    """The greedy outputs, then the seeded one, all made together."""
    requests = [*(Request(prompt) for prompt in PROMPTS), drawn()]
    generate(runner, requests, TOKENS, chunk=100)
    return [request.output for request in requests]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.ranks}-{layout.experts}")
def test_layout(layout: Layout, checkpoint: Path, expected: list[list[int]], sampled: list[int]) -> None:
    assert run(spec(checkpoint, layout), lead) == [*expected, sampled]


def test_one_rank(checkpoint: Path, expected: list[list[int]], sampled: list[int]) -> None:
    runner = build(spec(checkpoint, Layout()), 0, None)
    requests = [*(Request(prompt) for prompt in PROMPTS), drawn()]
    generate(runner, requests, TOKENS, chunk=64)
    assert [request.output for request in requests] == [*expected, sampled]


def lead_logprobs(runner: TorchRunner, pipe: Connection) -> list[Any]:
    """One prompt, asked for in four ways in one step, with a plan that is longer than the first broadcast."""
    rows = [Request(PROMPTS[2], logprobs=alternatives) for alternatives in (5, 0, -1)]
    rows.append(Request(PROMPTS[2], logprobs=2, temperature=1.0, seed=3))
    padding = [Request([1] * 200) for _ in range(2)]
    for index, request in enumerate([*rows, *padding]):
        request.blocks = request.ring = list(range(20 * index, 20 * index + 20))
    found = step(runner, [*rows, *padding], [len(request.prompt) for request in [*rows, *padding]], 16)
    return [found.tokens[:4], found.logprobs[:4], found.top_ids[:4], found.top_logprobs[:4]]


@pytest.mark.parametrize("layout", [Layout(), Layout(2), Layout(4, "tp")], ids=lambda layout: f"{layout.ranks}")
def test_log_probabilities(layout: Layout, checkpoint: Path, model: Any) -> None:
    big, alone = spec(checkpoint, layout), layout.ranks == 1
    tokens, logprobs, ids, values = lead_logprobs(build(big, 0, None), None) if alone else run(big, lead_logprobs)  # type: ignore[arg-type]
    row = torch.log_softmax(logits(model, PROMPTS[2])[-1].double(), -1).numpy()
    best = np.argsort(-row)[:5]
    assert tokens[0] == tokens[1] == tokens[2] == best[0]
    np.testing.assert_allclose(logprobs, [row[best[0]], row[best[0]], 0, row[tokens[3]]], atol=1e-4)
    assert [list(top) for top in ids] == [list(best), [], [], list(best[:2])]
    np.testing.assert_allclose(values[0], row[best], atol=1e-4)
    np.testing.assert_allclose(values[3], row[best[:2]], atol=1e-4)


def test_prompt_log_probabilities(checkpoint: Path, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a prompt in chunks, beside another request, with logits for a few rows at a time."""
    monkeypatch.setattr("workers.runner.runner.LOGITS_BYTES", 7 * 4 * TINY.vocab_size)
    runner = build(spec(checkpoint, Layout()), 0, None)
    request, other = Request(PROMPTS[1], prompt_logprobs=3, logprobs=3), Request(PROMPTS[2])
    allocate([request, other], 1, 16, 64, chunk=60)
    found = [step(runner, [other, request], [60, count], 16) for count in (60, 60, 30)]
    tokens = np.concatenate([part.tokens for part in found])
    row = torch.log_softmax(logits(model, PROMPTS[1]).double(), -1).numpy()
    assert tokens.tolist() == [*PROMPTS[1][1:], int(row[-1].argmax())]
    np.testing.assert_allclose(np.concatenate([part.logprobs for part in found]), row[np.arange(150), tokens], atol=1e-4)
    for number, ids in enumerate(ids for part in found for ids in part.top_ids):
        assert ids.tolist() == np.argsort(-row[number])[:3].tolist()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.ranks}-{layout.experts}")
def test_bfloat16_stays_near(layout: Layout, checkpoint: Path, model: Any) -> None:
    """Log probabilities of the best five err by 0.5 at most, against float32; logits have a deviation of 4."""
    _, _, ids, values = run(replace(spec(checkpoint, layout), dtype="bfloat16"), lead_logprobs)
    row = torch.log_softmax(logits(model, PROMPTS[2])[-1].double(), -1).numpy()
    np.testing.assert_allclose(values[0], row[ids[0]], atol=0.5)
