"""One of several processes on a port, as their parent sees it: begun, asked for its metrics, awaited. Knows no other."""

import asyncio
import multiprocessing
import signal
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack, suppress
from multiprocessing.process import BaseProcess

from ossia.common.errors import UserError
from router.gateway.line import Line
from router.gateway.seat import ALL, ASK, OWN, SERVING, TELL, Shared

TELL_S = 2.0  # for a process to tell its metrics; after that, what it told last counts
Work = Callable[[Shared], None]  # what a process does; pickled, so a function of a module
Answer = Callable[[str], Coroutine[None, None, str]]  # in the format of this media type


class Member:
    """One of the processes, or its place between two lives."""

    def __init__(self, work: Work, stop_s: float) -> None:
        self._work = work
        self._stop_s = stop_s
        self._told = ""  # the last that it told of its metrics
        self._asked: deque[asyncio.Future[str]] = deque()
        self._process: BaseProcess | None = None
        self._line: Line | None = None
        self._life: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        assert self._process and self._process.pid
        return self._process.pid

    async def start(self, answer: Answer) -> None:
        """Returns once it serves. `answer` says what the metrics of all are. Raises UserError where it cannot serve, OSError
        where the host has no place for a process.
        """
        mine, theirs = socket.socketpair()
        with theirs, ExitStack() as failing:
            failing.callback(mine.close)
            self._process = _spawn(self._work, theirs)
            failing.pop_all()
        self._line = line = await Line.open(mine)
        word, text = await line.receive() or ("", "it ended before it served; its log tells why")
        self._life = asyncio.create_task(self._listen(line, answer))
        if word != SERVING:
            await self.ended()
            raise UserError(text)

    async def ended(self) -> int | None:
        """Its exit code, once it has ended; negative for a signal."""
        assert self._process and self._life
        await asyncio.shield(self._life)
        await asyncio.to_thread(self._process.join)
        return self._process.exitcode

    def retire(self) -> str:
        """The last that it told, once."""
        told, self._told = self._told, ""
        return told

    async def tell(self) -> str:
        """What its metrics are; what they were where it does not answer."""
        if self._line and self._life and not self._life.done():
            future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self._asked.append(future)
            await self._line.send(TELL)
            with suppress(TimeoutError):
                return await asyncio.wait_for(future, TELL_S)
        return self._told

    async def stop(self) -> None:
        """Lets it end by itself, and kills it where it does not."""
        if self._process is None:
            return
        if self._line and self._life:
            self._line.end()
            await asyncio.wait([self._life], timeout=self._stop_s)
        self._process.kill()  # nothing where it has ended
        await asyncio.to_thread(self._process.join)
        if self._line:
            await self._line.close()

    async def _listen(self, line: Line, answer: Answer) -> None:
        turn = asyncio.Lock()
        async with asyncio.TaskGroup() as answers:
            while message := await line.receive():
                word, text = message
                if word == OWN:
                    self._told = text
                    if self._asked:
                        _settle(self._asked.popleft(), text)
                elif word == ASK:
                    answers.create_task(_reply(line, turn, answers.create_task(answer(text))))
        while self._asked:
            _settle(self._asked.popleft(), self._told)
        await line.close()


async def _reply(line: Line, turn: asyncio.Lock, answer: Awaitable[str]) -> None:
    async with turn:  # whoever asked takes answers in the order of the questions
        await line.send(ALL, await answer)


def _settle(future: asyncio.Future[str], text: str) -> None:
    if not future.done():  # whoever asked may have given up
        future.set_result(text)


def _spawn(work: Work, end: socket.socket) -> BaseProcess:
    """Ctrl-C is for the parent, which says when to stop: a signal that is blocked here is blocked there from the start."""
    process = multiprocessing.get_context("spawn").Process(target=_begin, args=(work, end), daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def _begin(work: Work, end: socket.socket) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    seat = Shared(end)
    try:
        work(seat)
    except UserError as mistake:
        seat.refuse(str(mistake))
        sys.exit(2)
