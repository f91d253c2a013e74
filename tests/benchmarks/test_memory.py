from pathlib import Path

import pytest

from benchmarks.memory import CONFIG, measure
from cluster.make_checkpoint import make_checkpoint
from workers.model.layout import Layout


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ranks_stay_within_their_weights_and_a_quarter(dtype: str, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model", CONFIG, seed=0)
    rows = measure(tmp_path / "model", Layout(2), dtype)
    assert [row["rank"] for row in rows] == [0, 1]
    assert all(row["within"] for row in rows), rows
