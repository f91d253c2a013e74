"""A real `ossia serve` in a process of its own, with folders of its own, as a user starts it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

EXAMPLES = Path(__file__).parents[2] / "examples"
OSSIA = Path(sys.executable).with_name("ossia")


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Serving:
    """`ossia serve MODEL ARGUMENTS` on a free port; `start` returns once its one line is printed."""

    def __init__(self, folder: Path, model: Path | None, *arguments: str, name: str = "e2e") -> None:
        self.name = name
        self.port = free_port()
        self.folder = folder
        self.environment = os.environ | {
            "XDG_CACHE_HOME": str(folder / "cache"),
            "XDG_STATE_HOME": str(folder / "state"),
            "HF_HUB_OFFLINE": "1",
        }
        self._arguments = [*([str(model)] if model else []), *arguments, f"--name={name}", f"--port={self.port}"]
        self._errors = folder / f"{name}.stderr"
        self.process: subprocess.Popen[str] | None = None
        self.line = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Serving":
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [OSSIA, "serve", *self._arguments], stdout=subprocess.PIPE, stderr=errors, text=True, env=self.environment
            )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        assert self.line, f"ossia serve exited with {self.process.wait()}: {self._errors.read_text()}"
        return self

    def run(self, *arguments: str, timeout: float = 60, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Another command of the CLI, in the same folders."""
        return subprocess.run(
            [OSSIA, *arguments], capture_output=True, text=True, timeout=timeout, env=self.environment, check=False, **settings
        )

    def example(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of examples/, asking this."""
        command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
        environment = os.environ | {"OPENAI_BASE_URL": f"{self.url}/v1"}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=True)

    def status(self) -> dict[str, Any]:
        result = self.run("status", "--json", f"--name={self.name}")
        loaded = json.loads(result.stdout)
        assert isinstance(loaded, dict)
        return loaded

    def pids(self) -> dict[str, list[int]]:
        """Pids of the ranks, in rank order, by replica."""
        return {
            replica["name"]: [rank["pid"] for rank in sorted(replica["ranks"], key=_rank)]
            for replica in self.status()["replicas"]
        }

    def stop(self, timeout: float = 120) -> int:
        """SIGTERM, as a service manager does it; returns the exit code. Everything it started must be gone by then."""
        assert self.process is not None
        family = [self.process, *psutil.Process(self.process.pid).children(recursive=True)]
        self.process.terminate()
        self.process.communicate(timeout=timeout)
        left = [process for process in family[1:] if isinstance(process, psutil.Process) and process.is_running()]
        _, alive = psutil.wait_procs(left, timeout=5)
        assert not alive, f"left running: {alive}"
        return self.process.returncode


def _rank(rank: Mapping[str, int]) -> int:
    return rank["rank"]
