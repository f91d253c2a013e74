"""Two ranks in deterministic mode: seeded output and its log probabilities are the same to the bit, however it is computed."""

from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.workers.driver import Request, allocate, step
from tests.workers.runner.gang import run
from tests.workers.tiny import TINY, write
from workers.model.layout import Layout
from workers.runner.runner import TorchRunner
from workers.runner.spec import RunnerSpec

GENERATOR = torch.Generator().manual_seed(8)
PROMPTS = [torch.randint(0, TINY.vocab_size, (length,), generator=GENERATOR).tolist() for length in (200, 40, 133)]
TOKENS = 8


def output(runner: TorchRunner, chunk: int, others: list[Request]) -> list[Any]:
    """One request's output and log probabilities, its prompt in chunks, `others` computing beside it."""
    request = Request(PROMPTS[0], temperature=1.0, top_p=0.95, seed=4, logprobs=5)
    allocate([request, *others], 50, 16, 64, chunk=200)
    found: list[Any] = []
    while len(request.output) < TOKENS:
        together = [other for other in others if len(other.output) < 40] + [request]
        counts = [min(chunk, len(one.tokens) - one.cached) for one in together]
        sampled = step(runner, together, counts, 16)
        if len(request.output) > len(found):
            found.append((sampled.tokens[-1], sampled.logprobs[-1], sampled.top_ids[-1], sampled.top_logprobs[-1]))
    return [[token, logprob, ids.tolist(), values.tolist()] for token, logprob, ids, values in found]


def lead(runner: TorchRunner, pipe: Connection) -> list[list[Any]]:
    others = [Request(prompt, temperature=1.0, seed=seed) for seed, prompt in enumerate(PROMPTS[1:])]
    return [output(runner, 200, []), output(runner, 33, others), output(runner, 1, [])]


@pytest.mark.parametrize(("layout", "dtype"), [(Layout(2, "ep"), "bfloat16"), (Layout(2, "tp"), "float32")], ids=str)
def test_ranks_add_up_in_order(layout: Layout, dtype: str, tmp_path: Path) -> None:
    spec = RunnerSpec(
        str(write(tmp_path)), layout, dtype, kv_memory=8 << 20, max_context=256, max_sequences=4, deterministic=True
    )
    alone, among_others, token_by_token = run(spec, lead)
    assert len(alone) == TOKENS
    assert alone == among_others == token_by_token
