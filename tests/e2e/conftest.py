"""One small checkpoint, its transformers twin, and one running cluster for all end-to-end tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.serving import Serving

SHAPE = ["--hidden=64", "--intermediate=256", "--layers=4", "--experts=8", "--heads=16", "--kv-heads=8", "--seed=7"]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint in the released format that every layout divides, made by the command that users have."""
    folder = tmp_path_factory.mktemp("checkpoint")
    result = Serving(folder, None).run("make-checkpoint", str(folder / "tiny-gpt-oss"), *SHAPE, timeout=120)
    assert result.returncode == 0, result.stderr
    return folder / "tiny-gpt-oss"


@pytest.fixture(scope="session")
def oracle(checkpoint: Path) -> Callable[[list[int], int], list[int]]:
    """Greedy token ids by transformers in float32: (prompt, number of tokens) to output ids."""
    import torch
    from transformers import GptOssForCausalLM

    # .float(): transformers leaves experts that it unpacked from MXFP4 in bfloat16, whatever dtype it is asked for.
    model: Any = GptOssForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").float().eval()

    def generate(prompt: list[int], tokens: int) -> list[int]:
        with torch.inference_mode():
            output = model.generate(
                torch.tensor([prompt]), max_new_tokens=tokens, do_sample=False, attention_mask=torch.ones(1, len(prompt))
            )
        return list(output[0, len(prompt) :].tolist())

    return generate


@pytest.fixture(scope="session")
def serving(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """2 replicas of 2 ranks, stopped at the end by SIGTERM."""
    running = Serving(tmp_path_factory.mktemp("serving"), checkpoint, "--replicas=2", "--ranks=2").start()
    yield running
    assert running.stop() == 0
