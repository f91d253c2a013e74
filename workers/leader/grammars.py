"""Holds requests to their grammars: off the event loop and off the step thread, for compiling one takes up to seconds."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from ossia.v1 import engine_pb2
from workers.engine.errors import Cause, Refusal
from workers.engine.grammar import Grammar
from workers.engine.limits import hold
from workers.engine.request import Request

logger = logging.getLogger(__name__)

THREADS = 4  # in each pool
MAX_COMPILING = 64  # different grammars that are compiled or wait for it
PATIENCE_S = 5.0  # clients take an engine for stalled that leaves a request without a step for ten


class Compiled(Protocol):
    """A grammar that many requests are held to, in any threads."""

    def start(self) -> Grammar:
        """The state before the first token of output."""


Compile = Callable[[engine_pb2.Grammar, int], Compiled]
"""From the message and the vocabulary's size; raises Refusal. `workers.grammar.compile` is the one there is."""


class Grammars:
    """Compiles each grammar once, however many requests come with it at the same time. Used on one event loop.

    Those of headers alone, which every conversation has, take milliseconds and do not queue behind those with contents.
    """

    def __init__(self, vocab_size: int, compile: Compile) -> None:
        self._vocab_size = vocab_size
        self._compile = compile
        self._headers = ThreadPoolExecutor(THREADS, "headers")
        self._contents = ThreadPoolExecutor(THREADS, "contents")
        self._compiling: dict[bytes, asyncio.Future[Compiled]] = {}

    async def hold(self, request: Request, submit: engine_pb2.Submit) -> None:
        """Holds the request to the grammar of its Submit; raises Refusal.

        One with resumed output is never refused for want of room, for its client has been promised the rest. Where time runs
        out it is, as of a replica that fails: a router moves it on, and comes back to what has been compiled meanwhile.
        """
        resumed = len(submit.resume.tokens) > 0
        try:
            async with asyncio.timeout(PATIENCE_S):
                compiled = await asyncio.shield(self._compiled(submit.grammar, resumed))
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._pool(submit.grammar), lambda: hold(request, compiled.start()))
        except (Refusal, asyncio.CancelledError):
            raise
        except TimeoutError as error:
            cause = Cause.BROKEN if resumed else Cause.EXHAUSTED
            raise _busy(f"its grammar was not ready within {PATIENCE_S:.0f} s", cause) from error
        except BaseException as error:  # a panic of native code is no Exception
            logger.exception("a grammar failed by our own fault", extra={"request_id": submit.request_id})
            message = "this replica failed to compile the grammar"
            raise Refusal(Cause.BROKEN, message, reason="GRAMMAR_FAILED", field="grammar") from error

    def close(self) -> None:
        """Compiles nothing more."""
        for pool in (self._headers, self._contents):
            pool.shutdown(wait=False, cancel_futures=True)

    def _compiled(self, message: engine_pb2.Grammar, resumed: bool) -> "asyncio.Future[Compiled]":
        name = message.SerializeToString(deterministic=True)
        if name not in self._compiling:
            pool, loop = self._pool(message), asyncio.get_running_loop()
            if len(self._compiling) >= MAX_COMPILING and pool is self._contents and not resumed:
                raise _busy(f"{MAX_COMPILING} grammars are being compiled")
            compiling = loop.run_in_executor(pool, self._compile, message, self._vocab_size)
            self._compiling[name] = compiling
            compiling.add_done_callback(lambda done: self._forget(name, done))
        return self._compiling[name]

    def _pool(self, message: engine_pb2.Grammar) -> ThreadPoolExecutor:
        held = message.WhichOneof("content") or any(function.HasField("parameters") for function in message.functions)
        return self._contents if held else self._headers

    def _forget(self, name: bytes, done: "asyncio.Future[Compiled]") -> None:
        del self._compiling[name]
        if not done.cancelled():
            done.exception()  # whoever asked for it may be gone: then nobody else looks at it


def _busy(message: str, cause: Cause = Cause.EXHAUSTED) -> Refusal:
    return Refusal(cause, message, reason="GRAMMARS_BUSY", retry_after_s=1.0)
