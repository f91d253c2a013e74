"""The import checker holds the repository to the design's table, and notices what is planted."""

from pathlib import Path

import pytest

from tests.imports import ROOT, violations


def test_the_repository_keeps_the_table() -> None:
    assert [str(each) for each in violations(ROOT)] == []


def plant(root: Path, files: dict[str, str]) -> list[str]:
    """What the checker says of a tree of these files."""
    for name, source in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return [str(each) for each in violations(root)]


@pytest.mark.parametrize(
    "file, source, target",
    [
        ("router/a.py", "import torch", "torch"),
        ("router/a.py", "from torch import nn", "torch"),
        ("router/gateway/a.py", "def f():\n    import ray.util", "ray.util"),
        ("router/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import workers.shard", "workers.shard"),
        ("router/a.py", "import importlib\nimportlib.import_module('torch.nn')", "torch.nn"),
        ("workers/a.py", "from router import client", "router"),
        ("workers/engine/a.py", "import grpc", "grpc"),
        ("workers/shard.py", "import ray", "ray"),
        ("proto/ossia/common/a.py", "from cluster import cli", "cluster"),
        ("cluster/a.py", "import proto", "proto"),
        ("cluster/a.py", "from tests import fakes", "tests"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, file: str, source: str, target: str) -> None:
    assert any(line.endswith(f"imports {target}") for line in plant(tmp_path, {file: source}))


def test_an_import_by_way_of_others_is_found(tmp_path: Path) -> None:
    found = plant(
        tmp_path,
        {
            "workers/engine/a.py": "from workers.common import b",
            "workers/common/b.py": "def lazily():\n    from .c import thing",
            "workers/common/c.py": "import transformers",
        },
    )
    assert found == ["workers.engine.a:1 -> workers.common.b -> workers.common.c imports transformers"]


def test_the_package_above_a_module_counts(tmp_path: Path) -> None:
    found = plant(
        tmp_path,
        {
            "workers/kernels/__init__.py": "import torch",
            "workers/kernels/names.py": "NAMES = ()",
            "workers/engine/a.py": "import workers.kernels.names",
        },
    )
    assert found == ["workers.engine.a:1 -> workers.kernels.names -> workers.kernels imports torch"]


@pytest.mark.parametrize(
    "file, source",
    [
        ("workers/actor.py", "import ray"),
        ("workers/runner/a.py", "import torch"),
        ("cluster/a.py", "import ray, torch, workers, router"),
        ("router/a.py", "import torchless, rayon\nfrom ossia.v1 import engine_pb2"),
        ("workers/engine/a.py", "import numpy"),
        ("router/a.py", "import google.protobuf, proton"),
    ],
)
def test_what_is_allowed(tmp_path: Path, file: str, source: str) -> None:
    assert plant(tmp_path, {file: source}) == []
