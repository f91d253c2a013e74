"""Deterministic kernels: a token's logits have the same bits alone, among others, in any chunks and behind a prefix hit."""

from pathlib import Path

import pytest
import torch

from tests.workers.driver import Request, allocate
from tests.workers.model.test_model import Alone, close, prompt
from tests.workers.tiny import logits, oracle, write
from workers.checkpoint.released import Form

LENGTH = 300  # tokens; the window is 128
DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[Form, Path]:
    folder = tmp_path_factory.mktemp("deterministic")
    return {"packed": write(folder), "bf16": write(folder, form="bf16")}


@pytest.fixture(params=[(form, dtype) for form in ("packed", "bf16") for dtype in DTYPES], ids=str)
def ours(request: pytest.FixtureRequest, paths: dict[Form, Path]) -> Alone:
    form, dtype = request.param
    return Alone(paths[form], dtype, deterministic=True)


def in_chunks(ours: Alone, request: Request, chunks: tuple[int, ...], others: list[Request] | None = None) -> torch.Tensor:
    """The logits of all tokens of `request`; each of `others` computes a few of its tokens beside every chunk, where it can."""
    found = []
    for number, chunk in enumerate(chunks):
        beside = [other for other in others or [] if len(other.tokens) - other.cached > 20]
        counts = [1 + 7 * (number + place) % 20 for place in range(len(beside))]
        middle = len(beside) // 2
        parts = ours.every([*beside[:middle], request, *beside[middle:]], [*counts[:middle], chunk, *counts[middle:]])
        found.append(parts[middle])
    return torch.cat(found)


def test_the_same_bits_however_a_prompt_comes(ours: Alone) -> None:
    requests = [Request(prompt(LENGTH)) for _ in range(4)]
    others = [Request(prompt(length, seed=length)) for length in (40, 150, 280)]
    allocate([*requests, *others], 1, 16, 512)
    whole = in_chunks(ours, requests[0], (LENGTH,))
    chunks = [(1, 2, 30, 95, 1, 129, 42), (7,) * 42 + (6,), (64, 64, 64, 64, 41, 1, 1, 1)]
    assert torch.equal(in_chunks(ours, requests[1], chunks[0]), whole)
    assert torch.equal(in_chunks(ours, requests[2], chunks[1], others), whole)
    assert torch.equal(in_chunks(ours, requests[3], chunks[2], others), whole)


def test_the_same_bits_behind_a_prefix_hit(ours: Alone) -> None:
    """The second request reads what the first, and another batch, wrote."""
    first, second, other = Request(prompt(LENGTH)), Request(prompt(LENGTH)), Request(prompt(200, seed=1))
    allocate([first, second, other], 1, 16, 512)
    whole = in_chunks(ours, first, (100, 200), [other])
    hit = 256
    second.blocks[: hit // 16], second.ring[: hit // 16] = first.blocks[: hit // 16], first.ring[: hit // 16]
    second.cached = hit
    assert torch.equal(in_chunks(ours, second, (LENGTH - hit,)), whole[hit:])


def test_deterministic_kernels_compute_the_same_model(paths: dict[Form, Path]) -> None:
    ours, request = Alone(paths["packed"], deterministic=True), Request(prompt(LENGTH))
    allocate([request], 1, 16, 512, chunk=97)
    expected = logits(oracle(paths["packed"]), prompt(LENGTH))
    close(in_chunks(ours, request, (97, 97, 97, 9)), expected)
