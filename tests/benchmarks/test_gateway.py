"""The gateway's benchmark runs, and counts what it asked for."""

import json
import subprocess
import sys

import pytest


def rows(*arguments: str) -> list[dict[str, float]]:
    command = [sys.executable, "-m", "benchmarks.gateway", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_streams_are_whole() -> None:
    (row,) = rows("streams", "--streams", "3", "--seconds", "0.1", "--rate", "2000", "--output-tokens", "200")
    assert row["tokens"] == 3 * 200
    assert row["tokens_per_chunk"] > 1
    assert row["tokens_per_cpu_s"] > 0


@pytest.mark.slow
def test_time_to_first_token_is_told_beside_the_engines_own() -> None:
    (row,) = rows("first-token", "--requests", "20", "--rate", "50", "--port", "0")
    assert row["direct_ms_p50"] >= 5, "half a step of the engine"
    assert row["http_ms_p50"] > 0
    assert row["added_ms_p50"] == pytest.approx(row["http_ms_p50"] - row["direct_ms_p50"], abs=0.01)
