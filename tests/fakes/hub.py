"""A model hub on loopback: the few requests of its HTTP API that downloading a model takes."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves one folder as one model; `downloaded` lists the files that were fetched."""

    def __init__(self, model: str, folder: Path, address: str) -> None:
        self.model, self.folder, self.address = model, folder, address
        self.downloaded: list[str] = []

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        path = path.split("?")[0]
        if path == f"/api/models/{self.model}/revision/main":
            return 200, json.dumps({"id": self.model, "sha": COMMIT, "siblings": []}).encode(), {}
        if path == f"/api/models/{self.model}/tree/{COMMIT}":
            return 200, json.dumps([self._listed(file) for file in self.folder.rglob("*") if file.is_file()]).encode(), {}
        if path.startswith(start := f"/{self.model}/resolve/{COMMIT}/"):
            content = (self.folder / path.removeprefix(start)).read_bytes()
            return 200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{_digest(content)}"'}
        return 404, b"{}", {"X-Error-Code": "RepoNotFound"}

    def _listed(self, file: Path) -> dict[str, object]:
        content = file.read_bytes()
        return {"type": "file", "path": str(file.relative_to(self.folder)), "size": len(content), "oid": _digest(content)}


def _digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@contextmanager
def serve(model: str, folder: Path) -> Iterator[Hub]:
    """Runs a hub until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            if "/resolve/" in self.path:
                hub.downloaded.append(self.path.split(COMMIT + "/")[1])
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            code, content, headers = hub.answer(self.path)
            self.send_response(code)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub = Hub(model, folder, f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
