"""The grammars' benchmark runs, and counts what it says it counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.grammar import kinds, measure, run


@pytest.mark.parametrize("kind", kinds())
def test_every_token_of_an_output_is_timed(kind: str) -> None:
    row: dict[str, Any] = measure(kinds()[kind], outputs=2, seed=0)
    assert row["tokens"] > 2
    for name in ("mask_us", "accept_us"):
        middle, most = row[name]
        assert 0 < middle <= most


def test_steps_of_a_model_are_timed_beside_those_that_are_held_to_nothing(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(small, [1, 3], tokens=6)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["grammar"], row["batch"]) for row in rows] == [
        (name, batch) for name in ("none", *kinds()) for batch in (1, 3)
    ]
    for row in rows:
        assert 0 < row["steps"] <= 5 and row["step_ms"] > 0
        assert row["share"] <= row["grammar_share"] < 1
        if row["batch"] == 3:  # one alone may be at its end before a mask is asked for
            assert (row["mask_us"][1] > 0) == (row["share"] > 0) == (row["grammar"] != "none")
