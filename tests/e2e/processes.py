"""Parts of ossia as single processes, without Ray: the ranks of one replica, and a gateway."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx

from tests.e2e.serving import OSSIA, free_port
from workers.model.layout import Layout


class ShardGang:
    """The ranks of a replica on gloo, each `python -m workers.shard`; `address` is the leader's."""

    def __init__(self, folder: Path, checkpoint: Path, layout: Layout | None = None, **runner: Any) -> None:
        self._folder, self._checkpoint, self._runner = folder, checkpoint, runner
        self.layout = layout or Layout()
        self.ranks: list[subprocess.Popen[str]] = []
        self.address = ""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        file = self._folder / "shard.json"
        file.write_text(json.dumps(self._spec()))
        first = self._spawn(file, 0, "")
        rendezvous = _line(first)["rendezvous"]
        for rank in range(1, self.layout.ranks):
            self._spawn(file, rank, rendezvous)
        self.address = _line(first)["address"]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self.ranks:
            process.terminate()
        for process in self.ranks:
            process.communicate(timeout=30)
        self._stack.close()

    def _spawn(self, file: Path, rank: int, rendezvous: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "workers.shard", f"--spec={file}", f"--rank={rank}", f"--rendezvous={rendezvous}"]
        errors: IO[str] = self._stack.enter_context((self._folder / f"rank-{rank}.stderr").open("w"))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.ranks.append(process)
        return process

    def _spec(self) -> dict[str, Any]:
        runner = {
            "checkpoint": str(self._checkpoint),
            "layout": {"ranks": self.layout.ranks, "experts": self.layout.experts},
            "dtype": "float32",
            "kv_memory": 256 << 20,
            "threads": max(1, 2 // self.layout.ranks),
            **self._runner,
        }
        return {
            "replica": "replica-0",
            "epoch": 1,
            "runner": runner,
            "model_names": [self._checkpoint.name],
            "host": "127.0.0.1",
            "port": 0,
            "token": None,
            "log_folder": str(self._folder),
            "grace_s": 5.0,
        }


class GatewayProcess:
    """`ossia gateway` over one engine; port 0 is a free one."""

    def __init__(self, folder: Path, engine: str, port: int = 0) -> None:
        self._folder, self._engine = folder, engine
        self.url = f"http://127.0.0.1:{port or free_port()}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        file = self._folder / "gateway.stderr"
        self._errors = file.open("w")
        command = [str(OSSIA), "gateway", f"--fleet=static:{self._engine}", f"--port={self.url.rpartition(':')[2]}"]
        state = {**os.environ, "XDG_STATE_HOME": str(self._folder)}  # of the database
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=state)
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), file.read_text()  # it says where it listens
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while client.get("/ready").status_code != 200:
                time.sleep(0.05)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)
        self._errors.close()


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"a rank exited with {process.wait()}"
    loaded = json.loads(line)
    assert isinstance(loaded, dict)
    return loaded
