"""The gateway's benchmark runs, and counts what it asked for."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest


def rows(*arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.gateway", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_streams_are_whole() -> None:
    (row,) = rows("streams", "--streams", "3", "--seconds", "0.1", "--rate", "2000", "--output-tokens", "200")
    assert row["tokens"] == 3 * 200
    assert row["tokens_per_chunk"] > 1
    assert row["tokens_per_cpu_s"] > 0


@pytest.mark.slow
def test_the_simulated_engine_takes_part() -> None:
    (row,) = rows("streams", "--engine", "simulated", "--streams", "3", "--seconds", "0.1", "--output-tokens", "200")
    assert (row["engine"], row["tokens"]) == ("simulated", 3 * 200)
    assert row["engine_cpu"] > 0


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_memory_is_flat() -> None:
    *sizes, verdict = rows("memory", "--requests", "5000")
    assert [row["requests"] for row in sizes] == list(range(0, 5001, 500))
    assert verdict["within"] and verdict["growth_mib"] == pytest.approx(
        sizes[-1]["resident_mib"] - sizes[1]["resident_mib"], abs=0.11
    )


@pytest.mark.slow
def test_time_to_first_token_is_told_beside_the_engines_own() -> None:
    (row,) = rows("first-token", "--requests", "20", "--rate", "50", "--port", "0")
    assert row["direct_ms_p50"] >= 5, "half a step of the engine"
    assert row["http_ms_p50"] > 0
    assert row["added_ms_p50"] == pytest.approx(row["http_ms_p50"] - row["direct_ms_p50"], abs=0.01)
    assert row["failed"] == 0


class Peer(http.server.BaseHTTPRequestHandler):
    """A proxy that refuses everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(500)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def peer() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Peer)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_peer_that_fails_is_told_as_such(peer: str) -> None:
    told = ("--requests", "20", "--rate", "50", "--port", "0", "--peer", f"broken={peer},any,any")
    ours, theirs = rows("first-token", *told)
    assert (ours["failed"], theirs["failed"]) == (0, 20)
    assert "500" in theirs["error"] and "added_ms_p50" not in theirs
