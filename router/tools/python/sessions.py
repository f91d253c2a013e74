"""Which interpreter a call runs in: one for each session, ended when idle or when others need the room. Knows no protocol."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from router.shares import Shares
from router.tools.python.lockdown import Limits
from router.tools.python.process import Interpreter
from router.tools.types import ToolResult

IDLE_S = 600.0
MOST = 16


@dataclass(frozen=True)
class _Idle:
    interpreter: Interpreter
    tenant: str
    timer: asyncio.TimerHandle


class Sessions:
    """At most `most` interpreters, shared between tenants; each ends `idle_s` seconds after its last cell."""

    def __init__(self, limits: Limits, output: int, most: int = MOST, idle_s: float = IDLE_S) -> None:
        self._limits = limits
        self._output = output
        self._most = most
        self._idle_s = idle_s
        self._running = 0
        self._idle: dict[str, _Idle] = {}  # the longest idle first
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._shares = Shares(most)
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self, session: str, code: str, timeout_s: float, tenant: str = "") -> ToolResult:
        """Runs a cell in the session's interpreter, a new one where there is none, or one of its own where `session` is empty.

        Waiting for the session's other cells, and for room, counts towards `timeout_s`. What one tenant runs leaves room for
        others.
        """
        end = asyncio.get_running_loop().time() + timeout_s
        try:
            async with (
                asyncio.timeout_at(end) as waiting,
                self._alone(session),
                self._shares.place(tenant),
                self._interpreter(session, tenant) as interpreter,
            ):
                waiting.reschedule(None)
                return await interpreter.run(code, end - asyncio.get_running_loop().time())
        except TimeoutError:
            return ToolResult(f"[no interpreter was free within {timeout_s:g} seconds: try again]", error=True)

    async def close(self) -> None:
        """Ends all interpreters that are idle; those that run end with whoever waits for them."""
        for session in list(self._idle):
            self._end(session)
        await asyncio.gather(*self._ending)

    @asynccontextmanager
    async def _alone(self, session: str) -> AsyncIterator[None]:
        """One cell of a session at a time."""
        if not session:
            yield
            return
        lock, users = self._locks.get(session, (asyncio.Lock(), 0))
        self._locks[session] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(session)
            if users > 1:
                self._locks[session] = lock, users - 1

    @asynccontextmanager
    async def _interpreter(self, session: str, tenant: str) -> AsyncIterator[Interpreter]:
        self._running += 1
        try:
            interpreter = await self._take(session)
            try:
                yield interpreter
            finally:
                self._put(session, tenant, interpreter)
        finally:
            self._running -= 1

    async def _take(self, session: str) -> Interpreter:
        if session in self._idle:
            idle = self._idle.pop(session)
            idle.timer.cancel()
            return idle.interpreter
        if self._running + len(self._idle) > self._most:
            self._end(self._least_missed())
        return await Interpreter.start(self._limits, self._output)

    def _least_missed(self) -> str:
        """The longest idle session of the tenant that has most of them."""
        (most, _), *_ = Counter(idle.tenant for idle in self._idle.values()).most_common(1)
        return next(session for session, idle in self._idle.items() if idle.tenant == most)

    def _put(self, session: str, tenant: str, interpreter: Interpreter) -> None:
        if session and not interpreter.broken:
            timer = asyncio.get_running_loop().call_later(self._idle_s, self._end, session)
            self._idle[session] = _Idle(interpreter, tenant, timer)
        else:
            self._close(interpreter)

    def _end(self, session: str) -> None:
        idle = self._idle.pop(session)
        idle.timer.cancel()
        self._close(idle.interpreter)

    def _close(self, interpreter: Interpreter) -> None:
        """In a task of its own, which nobody cancels."""
        task = asyncio.ensure_future(interpreter.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
