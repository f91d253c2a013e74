"""What processes do alike: logs, metrics, folders."""

import json
import logging
import os
import socket
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from ossia.common import folders, logs, metrics
from ossia.common.errors import UserError


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    logging.captureWarnings(False)
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers, root.level = handlers, level


def test_logs(tmp_path: Path, root_logger: logging.Logger) -> None:
    logs.configure("replica-0/rank-1", tmp_path / "logs")
    logging.getLogger("a.b").warning("hello %s", "you", extra={"request_id": "r1"})
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("careful", stacklevel=1)
    lines = [json.loads(line) for line in (tmp_path / "logs/replica-0-rank-1.jsonl").read_text().splitlines()]
    first = lines[0]
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "warning",
        "part": "replica-0/rank-1",
        "pid": os.getpid(),
        "logger": "a.b",
        "message": "hello you",
        "request_id": "r1",
    }
    assert "careful" in lines[1]["message"]


def test_logs_to_stderr(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("gateway", None)
    logging.getLogger("a").info("hello")
    assert json.loads(capsys.readouterr().err)["message"] == "hello"


def test_metrics() -> None:
    registry = CollectorRegistry()
    Counter("ossia_things", "Things.", registry=registry).inc()
    address = metrics.serve("127.0.0.1", 0, registry)
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        assert b"ossia_things_total 1.0" in answer.read()
    with pytest.raises(UserError, match="metrics"):
        metrics.serve("127.0.0.1", int(address.rpartition(":")[2]), registry)


def test_metrics_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="another port"):
        metrics.serve("127.0.0.1", taken.getsockname()[1])


def test_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert folders.cache() == tmp_path / "ossia"
    assert folders.state() == tmp_path / "home/.local/state/ossia"
