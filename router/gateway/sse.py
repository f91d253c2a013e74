"""Answers over HTTP that watch their client: as one JSON object, or as server-sent events. Knows no endpoint.

The format is the WHATWG's (https://html.spec.whatwg.org/multipage/server-sent-events.html) as OpenAI uses it, with `[DONE]`.
The status line waits for the first chunk, which is how an engine says that it admitted the request.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from router.gateway.errors import ApiError, ClientGone, Json, log_failure, seen

T = TypeVar("T")

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


@dataclass(frozen=True)
class Dialect:
    """How an API spells its streams: `named` events bear their `type` as name, `done` comes last unless an error does."""

    error: Callable[[ApiError], Json]  # an event
    named: bool = False
    done: bytes = b"data: [DONE]\n\n"
    ping: bytes = b": ping\n\n"

    def events(self, chunks: Iterable[Json]) -> bytes:
        """One event a chunk; by pydantic's encoder, ten times as fast as Python's, which a chunk a token is worth."""
        if self.named:
            return b"".join(b"event: %b\ndata: %b\n\n" % (str(chunk["type"]).encode(), to_json(chunk)) for chunk in chunks)
        return b"".join(b"data: %b\n\n" % to_json(chunk) for chunk in chunks)


CHUNKS = Dialect(ApiError.body)


def whole(body: Json) -> Response:
    """One JSON object that is there, by the same encoder as events."""
    return Response(to_json(body), media_type="application/json")


class Whole(Response):
    """One JSON object, computed while the client waits. Raises ApiError before anything is sent, and ClientGone."""

    def __init__(self, work: Coroutine[None, None, Json]) -> None:
        super().__init__(media_type="application/json")
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await until_disconnect(receive, self._work)
        await whole(body)(scope, receive, send)


class EventStream(Response):
    """Chunks as events. Raises ApiError for a refusal known within `admission_s`, ClientGone when the client leaves.

    After `admission_s` the status line goes out anyway and pings follow every `ping_s`; whatever fails from then on is an
    error event, after which the stream ends without the dialect's `done`.
    """

    def __init__(
        self, chunks: AsyncGenerator[list[Json], None], admission_s: float, ping_s: float, dialect: Dialect = CHUNKS
    ) -> None:
        super().__init__()
        self._dialect = dialect
        self._chunks = chunks
        self._admission_s = admission_s
        self._ping_s = ping_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await until_disconnect(receive, self._run(_Writer(send), scope["state"]))

    async def _run(self, writer: "_Writer", state: dict[str, object]) -> None:
        pings = asyncio.create_task(self._ping(writer))
        try:
            async with aclosing(self._chunks) as chunks:
                async for batch in chunks:
                    if batch:  # nothing is no data: the next ping is due as before
                        await writer.write(self._dialect.events(batch))
            await writer.end(self._dialect.done)
        except Exception as error:
            if not writer.begun:
                raise
            told = seen(error)
            log_failure(error, "a stream", str(state["request_id"]))
            state["error"] = told.code  # for the log: the status says 200
            await writer.end(self._dialect.events([self._dialect.error(told)]))
        finally:
            pings.cancel()

    async def _ping(self, writer: "_Writer") -> None:
        await asyncio.sleep(self._admission_s)
        while True:
            wait = self._ping_s - writer.quiet_s if writer.begun else 0
            if wait <= 0:
                await writer.write(self._dialect.ping)
                wait = self._ping_s
            await asyncio.sleep(wait)


class _Writer:
    """Sends the status line with the first bytes. Pings and chunks take turns."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._turn = asyncio.Lock()
        self._last = 0.0
        self.begun = False

    @property
    def quiet_s(self) -> float:
        """Seconds since something was sent."""
        return asyncio.get_running_loop().time() - self._last

    async def write(self, data: bytes, more: bool = True) -> None:
        async with self._turn:
            if not self.begun:
                self.begun = True
                await self._send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
            self._last = asyncio.get_running_loop().time()

    async def end(self, data: bytes) -> None:
        await self.write(data, more=False)


async def until_disconnect(receive: Receive, work: Coroutine[None, None, T]) -> T:
    """The result of `work`, which is cancelled as soon as the client leaves. Raises ClientGone then."""
    task, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        task.cancel()
        leaving.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
