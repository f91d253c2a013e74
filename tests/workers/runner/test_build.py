"""What a runner refuses before it loads, and what it says about itself."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ossia.common.errors import UserError
from tests.workers.driver import Request, allocate, generate, step
from tests.workers.tiny import TINY, continuation, oracle, write
from workers.engine.capacity import split
from workers.engine.plan import Plan
from workers.engine.sampling import Sampling
from workers.engine.stepper import Stepper
from workers.kernels.onednn import supported
from workers.model.layout import Layout
from workers.runner.build import build
from workers.runner.built import limits
from workers.runner.spec import RunnerSpec


def small(checkpoint: str | Path) -> RunnerSpec:
    return RunnerSpec(str(checkpoint), kv_memory=4 << 20, max_context=64, max_sequences=4, token_budget=64)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write(tmp_path_factory.mktemp("build")))


def test_kernels_are_named(checkpoint: str) -> None:
    spec = small(checkpoint)
    assert build(spec, 0, None).kernels == {"attention": "torch-paged", "experts": "torch-mxfp4", "linear": "torch-linear"}
    spec = replace(spec, unpack_experts=True, dtype="bfloat16")
    kind = "onednn" if supported() else "torch"
    assert build(spec, 0, None).kernels == {"attention": "torch-paged", "experts": f"{kind}-dense", "linear": f"{kind}-linear"}
    spec = replace(spec, deterministic=True)
    names = {"attention": "torch-splits", "experts": "torch-dense-tiles", "linear": "torch-linear-tiles"}
    assert build(spec, 0, None).kernels == names


def test_blocks_follow_from_memory(checkpoint: str) -> None:
    """A block of one full layer takes 2 (keys, values) x 8 heads x 16 values x 4 bytes x 16 tokens; two layers slide."""
    runner = build(small(checkpoint), 0, None)
    assert small(checkpoint).least_memory(runner.config) <= 4 << 20
    expected = split(4 << 20, 16384, 2 * 16384, 16, 128, max_sequences=4, token_budget=64, max_context=64)
    assert (runner.kv_blocks, runner.sliding_blocks) == expected
    assert sum(layer.nbytes for layers in runner._cache.layers for layer in layers) <= 4 << 20


@pytest.mark.parametrize("kind", ["full_attention", "sliding_attention"])
def test_a_model_whose_layers_are_all_of_one_kind(kind: str, tmp_path: Path) -> None:
    """One group of blocks holds everything, the other nothing; both are told apart all the same, prefix hits included."""
    path = write(tmp_path, replace(TINY, layer_types=(kind,) * TINY.num_hidden_layers))
    spec = RunnerSpec(str(path), kv_memory=8 << 20, max_context=256, max_sequences=4, token_budget=64)
    runner = build(spec, 0, None)
    bounds = limits(spec, runner)
    stepper, prompt = Stepper(runner, bounds), [number * 37 % 4000 + 10 for number in range(170)]
    expected = continuation(oracle(path), prompt, 8)
    for rid, cached in enumerate((0, 160)):
        stepper.submit(bounds.accept((0, rid), prompt, Sampling(temperature=0.0, max_tokens=8, ignore_eos=True)))
        outputs = [output for _ in iter(lambda: stepper.busy, False) for output in stepper.step().outputs]
        assert [token for output in outputs for token in output.tokens] == expected
        assert outputs[-1].usage and outputs[-1].usage.cached_tokens == cached
    held = sum(layer.nbytes for layers in runner._cache.layers for layer in layers)
    assert 0.95 * spec.kv_memory < held <= spec.kv_memory


def test_drafts_are_a_limit_of_the_engine(checkpoint: str) -> None:
    runner = build(small(checkpoint), 0, None)
    assert limits(small(checkpoint), runner).draft_tokens > 0
    assert limits(replace(small(checkpoint), drafts=False), runner).draft_tokens == 0


def test_cache_must_hold_a_context(checkpoint: str) -> None:
    with pytest.raises(UserError, match=r"1.0 MiB a rank cannot hold one request of 8192 tokens.* \(--kv-memory\) or lower"):
        build(RunnerSpec(checkpoint, kv_memory=1 << 20), 0, None)


def test_bytes_read_are_reported(checkpoint: str) -> None:
    read: list[int] = []
    build(small(checkpoint), 0, None, read.append)
    size = sum(file.stat().st_size for file in Path(checkpoint).glob("*.safetensors"))
    assert 0.97 * size < sum(read) <= size


def test_idle_step_and_bfloat16(checkpoint: str) -> None:
    runner = build(replace(small(checkpoint), dtype="bfloat16"), 0, None)
    assert len(runner.execute(Plan.idle()).tokens) == 0
    request = Request([5, 6, 7])
    generate(runner, [request], 4, chunk=2)
    assert len(request.output) == 4
    runner.close()


def test_logits_that_are_no_numbers_yield_no_token(tmp_path: Path) -> None:
    """One row of the head is broken: every row of logits has a NaN, wherever a rank looks for its best."""
    path = write(tmp_path)
    tensors = load_file(path / "model.safetensors")
    tensors["lm_head.weight"][77] = torch.nan
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    runner = build(small(path), 0, None)
    requests = [Request([5, 6]), Request([5, 6], temperature=1.0), Request([5, 6], top_p=0.5, temperature=1.0, logprobs=3)]
    allocate(requests, 1, 16, 8)
    sampled = step(runner, requests, [2, 2, 2], 16)
    assert sampled.tokens.tolist() == [-1, -1, -1]
    assert [len(ids) for ids in sampled.top_ids] == [0, 0, 0]


def test_impossible_layout(checkpoint: str) -> None:
    with pytest.raises(UserError, match="8 key-value heads do not divide|3 ranks"):
        build(RunnerSpec(checkpoint, Layout(3)), 0, None)


def test_loading_leaves_the_threads_of_computing_to_the_thread_that_runs_steps(checkpoint: str) -> None:
    """A pool of OpenMP threads made while loading would share the cores with that of the step loop's thread."""
    program = f"""
import psutil, torch
from workers.runner.build import build
from workers.runner.built import limits
from workers.runner.spec import RunnerSpec
torch.set_num_threads(1)
before = psutil.Process().num_threads()
build(RunnerSpec({checkpoint!r}, kv_memory=4 << 20, max_context=64, threads=3), 0, None)
made = psutil.Process().num_threads() - before
torch.ones(1 << 20).add_(1)
print(made, psutil.Process().num_threads() - before, torch.get_num_threads())
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["0", "2", "3"]
