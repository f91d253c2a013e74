"""The sampler's benchmark runs over all that it names."""

import json

import pytest

from benchmarks.sampling import KINDS, main


def test_every_kind_is_set_beside_the_yardstick(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["sampling", "--batch", "1", "2", "--rounds", "1", "--threads", "1"])
    main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["batch"], row["kind"]) for row in rows] == [
        (batch, kind) for batch in (1, 2) for kind in ("logits.argmax", *KINDS)
    ]
    assert all(row["ms"] > 0 and row.get("of_argmax", 1) > 0 for row in rows)
