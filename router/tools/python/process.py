"""One interpreter: a locked process with a folder of its own, and what its cells print. Knows nothing of sessions."""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import sys
import tempfile
from typing import Self

from router.tools.bounded import Bounded
from router.tools.python import folder as contents
from router.tools.python.lockdown import Limits
from router.tools.types import ToolResult

logger = logging.getLogger(__name__)

_WATCH_S = 0.5  # between looks at the size of the folder: nothing tells it
_MOST_FILES = 2000
_READ = 1 << 16  # bytes


class Interpreter:
    """Runs cells until it is closed or broken; one at a time."""

    def __init__(self, process: asyncio.subprocess.Process, folder: str, limits: Limits, output: int) -> None:
        self._process = process
        self._folder = folder
        self._limits = limits
        self._output = output
        self.broken = False

    @classmethod
    async def start(cls, limits: Limits, output: int) -> Self:
        """A fresh one; of what a cell prints, `output` bytes are kept."""
        folder = tempfile.mkdtemp(prefix="ossia-python-")
        try:
            return cls(await _start(folder, limits), folder, limits, output)
        except BaseException:
            contents.remove(folder)
            raise

    async def run(self, code: str, timeout_s: float) -> ToolResult:
        """What the cell printed. A cell that takes too long or too much ends the interpreter, and the result says so."""
        kept = Bounded(self._output)
        marker = secrets.token_hex(16).encode()
        self.broken = True  # until the marker is there: whoever cancels leaves a cell that runs
        self._signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(timeout_s):
                failure = await self._run(code, marker, kept)
        except TimeoutError:
            failure = f"it took longer than {round(timeout_s, 1):g} seconds"
        if failure is None:
            self.broken = False
            self._signal(signal.SIGSTOP)  # threads that the cell left behind go on with the next one
            return ToolResult(kept.text())
        note = f"[{failure}; the interpreter was ended, and its variables and files are gone]"
        return ToolResult(f"{kept.text().rstrip()}\n{note}".strip(), error=True)

    async def close(self) -> None:
        """Ends the process, whatever it does, and removes its folder."""
        self.broken = True
        self._signal(signal.SIGKILL)
        await self._process.wait()
        try:
            await asyncio.to_thread(contents.remove, self._folder)
        except OSError:
            logger.exception("a folder of an interpreter is left: %s", self._folder)

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                os.kill(self._process.pid, number)  # asyncio's own takes the exit from its own watcher

    async def _run(self, code: str, marker: bytes, kept: Bounded) -> str | None:
        """Returns why the cell did not end by itself, None where it did."""
        reading = asyncio.ensure_future(self._read(marker, kept))
        watching = asyncio.ensure_future(self._watch())
        try:
            self._send(code, marker)
            done, _ = await asyncio.wait({reading, watching}, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result() or self._excess()
        finally:
            reading.cancel()
            watching.cancel()
            await asyncio.wait({reading, watching})

    def _send(self, code: str, marker: bytes) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"marker": marker.decode(), "code": code}).encode() + b"\n")

    async def _read(self, marker: bytes, kept: Bounded) -> str | None:
        assert self._process.stdout
        held = b""  # what may be the marker's beginning
        try:
            while data := await self._process.stdout.read(_READ):
                held += data
                if marker in held:
                    held = held.partition(marker)[0]
                    return None
                cut = max(0, len(held) - len(marker) + 1)
                kept.add(held[:cut])
                held = held[cut:]
        finally:
            kept.add(held)
        return "it ended the process, or needed more memory or time than it may"

    async def _watch(self) -> str:
        while (excess := self._excess()) is None:  # noqa: ASYNC110 - no event tells how full a folder is
            await asyncio.sleep(_WATCH_S)
        return excess

    def _excess(self) -> str | None:
        total = 0
        try:
            for count, size in enumerate(contents.sizes(self._folder, self._process.pid)):
                total += size
                if total > self._limits.folder or count > _MOST_FILES:
                    return f"its files took more than {self._limits.folder} bytes, or were more than {_MOST_FILES}"
        except contents.Hidden:
            return "its files cannot be counted: they are nested too deep, hidden, or mapped and deleted"
        return None


async def _start(folder: str, limits: Limits) -> asyncio.subprocess.Process:
    numbers = (limits.memory, limits.cpu_s, limits.folder, limits.open_files)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "router.tools.python.interpreter", folder, *map(str, numbers)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"},
        start_new_session=True,
    )
