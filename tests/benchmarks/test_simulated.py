"""The simulation's benchmark serves the load that it makes, the same one at every run."""

import json

import pytest

from benchmarks.simulated import IDS, PREFIX_TOKENS, load, main


def test_a_load_has_the_lengths_that_are_asked_for() -> None:
    arrivals = load(2000, 50.0, 64, 24, seed=1)
    assert arrivals == load(2000, 50.0, 64, 24, seed=1) != load(2000, 50.0, 64, 24, seed=2)
    assert arrivals[-1].at_s == pytest.approx(2000 / 50, rel=0.2)
    assert sum(len(each.prompt) for each in arrivals) / 2000 == pytest.approx(64 + PREFIX_TOKENS / 2, rel=0.2)
    assert sum(each.sampling.max_tokens or 0 for each in arrivals) / 2000 == pytest.approx(24, rel=0.2)
    assert all(token in IDS for token in arrivals[0].prompt)


def test_all_requests_are_served(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["simulated", "--requests", "60", "--model", "gpt-oss-120b", "--device", "B200"])
    rows = []
    for _ in range(2):
        main()
        rows.append(json.loads(capsys.readouterr().out))
    assert (rows[0]["requests"], rows[0]["refused"]) == (60, 0)
    assert 0 < rows[0]["first_token_p50_s"] <= rows[0]["first_token_p99_s"] < rows[0]["simulated_s"]
    assert rows[0]["token_p50_s"] > 0 and 0 < rows[0]["cached_share"] < 1
    assert rows[0] | {"cpu_s": 0} == rows[1] | {"cpu_s": 0}
