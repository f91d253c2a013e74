"""One small checkpoint, its transformers twin, and one running cluster for all end-to-end tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.oracle import Oracle, load
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
def oracle(checkpoint: Path) -> Oracle:
    return load(checkpoint)


@pytest.fixture(scope="session")
def serving(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """2 replicas of 2 ranks, stopped at the end by SIGTERM."""
    running = Serving(tmp_path_factory.mktemp("serving"), checkpoint, "--replicas=2", "--ranks=2").start()
    yield running
    assert running.stop() == 0
