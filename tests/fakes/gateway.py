"""A gateway for tests: /ready answers 200. FAKE_GATEWAY=slow makes its orderly end take for ever, =refuse its start fail."""

import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = " ".join([*sys.argv, os.environ.get("OSSIA_DATABASE", "")]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    behaviour = os.environ.get("FAKE_GATEWAY")
    if behaviour == "refuse":
        print("ossia: port in use", file=sys.stderr)
        sys.exit(2)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: None if behaviour == "slow" else stopped.set())
    host, port = (sys.argv[sys.argv.index(flag) + 1] for flag in ("--host", "--port"))
    server = ThreadingHTTPServer((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stopped.wait()
    server.server_close()


if __name__ == "__main__":
    main()
