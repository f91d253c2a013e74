"""A process that the supervisor runs: started under cluster.lifeline, stdout read as lines, stderr kept in the logs."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from cluster.identity import ProcessId, kill

LINE_LIMIT = 16 << 20  # bytes
PREFIX = "ossia: "  # of what our commands tell the user
DRAIN_S = 1.0  # after the child's end, where a process under it holds its stdout open

logger = logging.getLogger(__name__)


class Child:
    """In a session of its own: a Ctrl-C in the terminal reaches the supervisor alone, which orders the end of the others."""

    def __init__(self, part: str, process: subprocess.Popen[bytes]) -> None:
        self.part = part
        self.pid = process.pid
        self._process = process
        self._last_error = self._refusal = ""  # the last lines on stderr: any, and one that is for the user
        self._printed: asyncio.Queue[str | None] = asyncio.Queue()
        assert process.stdout and process.stderr
        self._readers = (
            asyncio.create_task(_read(process.stdout, self._printed.put_nowait)),
            asyncio.create_task(_read(process.stderr, self._complain)),
        )
        self._exit = asyncio.create_task(self._wait())

    @classmethod
    def start(cls, part: str, module: Sequence[str], environment: Mapping[str, str]) -> "Child":
        """Runs `module` (its name, then arguments); it gets SIGTERM when this process ends, however it ends."""
        process = subprocess.Popen(
            [sys.executable, "-m", "cluster.lifeline", *module],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        logger.info("%s started, pid %d", part, process.pid)
        return cls(part, process)

    async def lines(self) -> AsyncIterator[str]:
        """What the child prints on stdout, until it ends."""
        while (line := await self._printed.get()) is not None:
            yield line

    async def wait(self) -> int:
        """Its exit code, negative for a signal, once what it wrote is read."""
        return await asyncio.shield(self._exit)

    @property
    def ended(self) -> bool:
        return self._exit.done()

    @property
    def complaint(self) -> str:
        """Why it ended, for people: what it told the user or else the last line on stderr, unless a signal ended it."""
        code = self._process.returncode
        if code is not None and code < 0:
            return f"{self.part} was killed by {signal.Signals(-code).name}"
        return self._refusal or self._last_error or f"{self.part} ended with exit code {code}"

    def terminate(self) -> None:
        self._process.terminate()  # nothing where it has ended

    def hurry(self) -> None:
        """Says once more that it must end: with another signal, for two of the same may reach it as one."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kills it and every process under it."""
        if process := ProcessId.of(self.part, self.pid) if self._process.returncode is None else None:
            kill([process])

    async def _wait(self) -> int:
        thread = ThreadPoolExecutor(1)  # of its own: the loop has few, which many children that live would use up
        code = await asyncio.get_running_loop().run_in_executor(thread, self._process.wait)
        thread.shutdown(wait=False)
        await asyncio.wait(self._readers, timeout=DRAIN_S)
        for reader in self._readers:
            reader.cancel()
        assert self._process.stdin
        self._process.stdin.close()
        self._printed.put_nowait(None)
        return code

    def _complain(self, line: str) -> None:
        self._last_error = line
        if line.startswith(PREFIX):
            self._refusal = line.removeprefix(PREFIX)
        logger.warning("%s: %s", self.part, line)


async def _read(pipe: IO[bytes], take: Callable[[str], None]) -> None:
    """Hands over the pipe's lines, empty ones apart, until its end."""
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
    try:
        async for line in reader:
            if text := line.decode(errors="replace").strip():
                take(text)
    finally:
        transport.close()
