"""Plans survive their packing, and what a scheduler is built of imports nothing heavy."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from tests.workers.engine.harness import Harness
from workers.engine.plan import Plan
from workers.engine.sampling import Sampling

MODULES = sorted(path.stem for path in Path("workers/engine").glob("*.py") if path.stem != "__init__")


def same(one: Plan, other: Plan) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(Plan)]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def test_unpack_is_the_inverse_of_pack_and_ignores_padding() -> None:
    harness = Harness()
    harness.submit(0, [5, 6, 7], Sampling(temperature=0.5, top_p=0.25, top_k=7, seed=2**64 - 1, logprobs=3))
    harness.submit(1, list(range(30)))
    harness.run(steps=200)
    for plan in [*harness.runner.plans, Plan.idle()]:
        padded = np.concatenate([plan.pack(), np.full(9, 255, np.uint8)])
        assert same(Plan.unpack(padded), plan)


@pytest.mark.parametrize("module", MODULES)
def test_the_engine_imports_nothing_heavy(module: str) -> None:
    heavy = "{'torch', 'transformers', 'grpc', 'ray'}"
    code = (
        f"import sys, workers.engine.{module}; sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
