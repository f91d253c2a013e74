"""Our gpt-oss against transformers' eager one, in float32: whole prompts, chunks, and decode through the paged cache."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.driver import Request, allocate, plan_of
from tests.workers.tiny import TINY, logits, oracle, write
from workers.checkpoint import open_checkpoint
from workers.checkpoint.released import Form
from workers.engine.plan import Plan
from workers.kernels.table import ATTENTION, EXPERTS, LINEAR, choose
from workers.model.batch import Batch
from workers.model.cache import Cache
from workers.model.config import ModelConfig
from workers.model.layout import Layout, Shard
from workers.model.model import Model
from workers.model.weights import Source

CPU = torch.device("cpu")
BLOCK = 16
SHAPES = {
    "tiny": TINY,
    "one-kv-head": replace(
        TINY, num_hidden_layers=2, layer_types=(), num_key_value_heads=1, num_attention_heads=4, head_dim=32
    ),
    "no-groups": replace(
        TINY, num_hidden_layers=2, layer_types=(), num_key_value_heads=4, num_attention_heads=4, num_local_experts=4
    ),
    "wide": replace(
        TINY, num_hidden_layers=5, layer_types=(), hidden_size=192, intermediate_size=64, num_local_experts=32, head_dim=64
    ),
}


class Alone:
    """One rank's model with its cache."""

    def __init__(
        self, path: Path, dtype: torch.dtype = torch.float32, *, unpack: bool = False, deterministic: bool = False
    ) -> None:
        weights = open_checkpoint(path)
        config = weights.config
        shard = Shard(config, Layout(), 0)
        attention = choose(ATTENTION, CPU, dtype, "paged", deterministic=deterministic).make(
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            block_size=BLOCK,
            window=config.sliding_window,
        )
        held = "packed" if weights.packed and not unpack else "dense"
        experts = choose(EXPERTS, CPU, dtype, held, deterministic=deterministic).make(dtype, CPU)
        linear = choose(LINEAR, CPU, dtype, "dense", deterministic=deterministic).make
        self.model = Model(Source(weights, shard, dtype, CPU, linear), attention, experts, lambda part: part, unpack=unpack)
        self.cache = Cache(shard, 512, 512, BLOCK, dtype, CPU)

    def run(self, requests: list[Request], counts: list[int]) -> torch.Tensor:
        """Computes the next tokens of each; returns the logits after the last of each."""
        plan = plan_of(requests, counts, BLOCK)
        return self._logits(replace(plan, rows=plan.query_starts[1:] - 1), requests, counts)

    def every(self, requests: list[Request], counts: list[int]) -> tuple[torch.Tensor, ...]:
        """Computes the next tokens of each; returns for each the logits after all of them."""
        plan = plan_of(requests, counts, BLOCK)
        plan = replace(plan, rows=np.arange(sum(counts), dtype=np.int32))
        return torch.split(self._logits(plan, requests, counts), counts)

    def _logits(self, plan: Plan, requests: list[Request], counts: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            found = self.model.head(self.model(Batch.of(plan, CPU), self.cache))
        for request, count in zip(requests, counts, strict=True):
            request.cached += count
        return found


def prompt(length: int, config: ModelConfig = TINY, seed: int = 0) -> list[int]:
    return torch.randint(0, config.vocab_size, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    path = write(tmp_path_factory.mktemp("tiny"))
    return path, oracle(path)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: str, tmp_path: Path) -> None:
    """Prompts shorter and longer than the window, each position's logits through the cache as prefill grows it."""
    path = write(tmp_path, SHAPES[shape])
    tokens = prompt(300, SHAPES[shape])
    expected = logits(oracle(path), tokens)
    ours, request = Alone(path), Request(tokens)
    allocate([request], 1, BLOCK, 512)
    for count in (1, 2, 30, 95, 1, 129, 42):
        close(ours.run([request], [count])[0], expected[request.cached - 1])
    assert request.cached == 300


@pytest.mark.parametrize("form", ["bf16", "original"])
def test_other_forms_are_the_same_model(form: Form, tiny: tuple[Path, Any], tmp_path: Path) -> None:
    path, theirs = tiny
    ours, request = Alone(write(tmp_path, form=form)), Request(prompt(150))
    allocate([request], 1, BLOCK, 512)
    close(ours.run([request], [150])[0], logits(theirs, prompt(150))[-1])


def test_unpacked_experts_change_nothing(tiny: tuple[Path, Any]) -> None:
    path, theirs = tiny
    ours, request = Alone(path, unpack=True), Request(prompt(150))
    allocate([request], 1, BLOCK, 512)
    close(ours.run([request], [150])[0], logits(theirs, prompt(150))[-1])


def test_beyond_4096_positions(tmp_path: Path) -> None:
    config = replace(
        TINY,
        num_hidden_layers=2,
        layer_types=(),
        hidden_size=64,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
    )
    path = write(tmp_path, config)
    tokens = prompt(4250)
    expected = logits(oracle(path), tokens)
    ours, request = Alone(path), Request(tokens)
    allocate([request], 1, BLOCK, 512)
    for count in (4000, 96, 1, 150, 3):
        close(ours.run([request], [count])[0], expected[request.cached - 1])


def test_mixed_batch_equals_alone(tiny: tuple[Path, Any]) -> None:
    """Decodes of different lengths beside two prefill chunks, in one step."""
    path, theirs = tiny
    ours = Alone(path)
    requests = [Request(prompt(length, seed=length)) for length in (3, 64, 200, 290)]
    allocate(requests, 1, BLOCK, 512)
    ours.run(requests, [2, 63, 130, 289])
    found = ours.run(requests, [1, 1, 70, 1])
    for row, request in zip(found, requests, strict=True):
        close(row, logits(theirs, list(request.prompt))[-1])


def test_drafts_are_computed_in_one_step(tiny: tuple[Path, Any]) -> None:
    """Logits behind each draft; what rejected ones leave in the cache is overwritten."""
    path, theirs = tiny
    ours, tokens = Alone(path), prompt(200)
    request, other = Request(tokens), Request(prompt(30, seed=1))
    allocate([request, other], 1, BLOCK, 512, chunk=140)
    ours.run([request, other], [140, 30])
    wrong = [7, 8, 9]
    request.prompt, other.prompt = [*tokens[:143], *wrong], [*other.prompt, 5, 6]
    found, beside = ours.every([request, other], [6, 2])
    close(found, logits(theirs, list(request.prompt))[140:])
    close(beside, logits(theirs, list(other.prompt))[30:])
    request.prompt, request.cached = tokens, 143
    close(ours.every([request], [57])[0], logits(theirs, tokens)[143:])


@pytest.mark.parametrize("unpack", [False, True])
def test_bfloat16_stays_near(unpack: bool, tiny: tuple[Path, Any]) -> None:
    """No worse than transformers' own bfloat16, whose error the tolerance was taken from: logits have a deviation of 4."""
    path, theirs = tiny
    ours, request = Alone(path, torch.bfloat16, unpack=unpack), Request(prompt(200))
    allocate([request], 1, BLOCK, 512)
    expected = logits(theirs, prompt(200))[-1]
    assert float((ours.run([request], [200])[0] - expected).abs().mean()) < 0.2
