"""`ossia chat` against a small OpenAI server, piped and on a pseudo-terminal."""

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Handler(BaseHTTPRequestHandler):
    """Thinks "hm", then answers with the number of messages it was sent and the last of them."""

    def do_GET(self) -> None:
        self._send("application/json", json.dumps({"data": [{"id": "first-model"}, {"id": "second"}]}))

    def do_POST(self) -> None:
        request: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "who am I" in request["messages"][-1]["content"]:
            request["messages"][-1]["content"] = self.headers["Authorization"]
        if request["model"] == "none":
            self._send("application/json", json.dumps({"error": {"message": "the model 'none' does not exist"}}), 404)
            return
        messages = request["messages"]
        deltas = [
            {"role": "assistant"},
            {"reasoning": "hm"},
            {"content": f"{len(messages)} "},
            {"content": messages[-1]["content"]},
        ]
        events = [json.dumps({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
        body = ": ping\n\n" + "".join(f"data: {event}\n\n" for event in [*events, json.dumps({"choices": []}), "[DONE]"])
        self._send("text/event-stream", body)

    def _send(self, kind: str, body: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def chat(*arguments: str, text: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.cli", "chat", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=30)


def test_piped_every_line_is_a_turn_of_one_conversation(url: str) -> None:
    done = chat("--url", url, text="hello\n\nworld\n/exit\nnever\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "hm\n\n1 hello\nhm\n\n3 world\n"


def test_what_the_server_refuses_is_one_line(url: str) -> None:
    done = chat("--url", url, "--model", "none", text="hello\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ossia: the model 'none' does not exist\n"


def test_no_server() -> None:
    done = chat("--url", "http://127.0.0.1:9", text="hello\n")
    assert done.returncode == 2
    assert done.stderr.startswith("ossia: http://127.0.0.1:9 does not answer")
    assert done.stderr.count("\n") == 1


def test_on_a_terminal_reasoning_is_dimmed_and_end_of_input_ends(url: str) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cluster.cli", "chat", "--url", url]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    seen = read_until(ours, b"", b"> ")
    os.write(ours, b"hello\n")
    seen = read_until(ours, seen, b"1 hello", b"> ")
    os.write(ours, b"\x04")
    assert process.wait(20) == 0
    os.close(ours)
    assert b"\x1b[2mhm\x1b[0m" in seen


def read_until(terminal: int, seen: bytes, *texts: bytes) -> bytes:
    """`seen` and what follows, up to where `texts` have come one after another."""
    position = len(seen)
    for text in texts:
        while (found := seen.find(text, position)) < 0:
            seen += os.read(terminal, 1024)
        position = found + len(text)
    return seen


def test_the_key_comes_from_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSSIA_API_KEY", "sk-ossia-mine")
    assert "Bearer sk-ossia-mine" in chat("--url", url, text="who am I\n").stdout
