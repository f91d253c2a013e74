"""The parser's benchmark: thousands of mutated streams without an exception, and a verdict where there is one."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks import parser
from ossia.common.vocabulary import CONSTRAIN
from router.harmony.parse import Event, Parser

STREAMS = 3000


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[object, dict[str, Any]]:
    """The exit code, and the figures."""
    monkeypatch.setattr(sys, "argv", ["parser", f"--streams={STREAMS}", "--seed=1"])
    with pytest.raises(SystemExit) as raised:
        parser.main()
    figures: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return raised.value.code, figures


def test_no_stream_breaks_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, figures = run(monkeypatch, capsys)
    assert (code, figures["streams"], figures["exceptions"]) == (0, STREAMS, 0)
    assert figures["repaired"] > STREAMS / 3


def test_an_exception_is_a_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Breaking(Parser):
        """Breaks over one token, as parsers of libraries do."""

        def feed(self, tokens: Sequence[int]) -> list[Event]:
            if CONSTRAIN in tokens:
                raise ValueError("unexpected token")
            return super().feed(tokens)

    monkeypatch.setattr(parser, "Parser", Breaking)
    code, figures = run(monkeypatch, capsys)
    assert code == 1 and STREAMS / 10 < figures["exceptions"] < STREAMS
