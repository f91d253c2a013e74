"""What surrounds every request: its id, its count and time, its line in the log, and the last catch of our own bugs."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.access.grant import FREE
from router.access.principal import ANYBODY
from router.gateway.dialects import refusal
from router.gateway.errors import ApiError, ClientGone, log_failure, seen, unavailable
from router.gateway.metrics import Metrics, exemplar

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
CLIENT_GONE = 499  # nginx's number; never sent
PATIENCE_S = 30.0  # that a body may be behind
LEAST = 1024  # bytes a second that are due


class Admission:
    """Whether requests are let in, and how many are inside."""

    def __init__(self, metrics: Metrics) -> None:
        self._gauge = metrics.in_flight
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.closed = False

    def close(self) -> None:
        """Refuses requests from now on."""
        self.closed = True

    async def drained(self) -> None:
        """Returns when no request is inside."""
        await self._idle.wait()

    def check(self) -> None:
        """Raises ApiError (503) once closed."""
        if self.closed:
            raise unavailable("the gateway is shutting down; try again")

    @contextmanager
    def request(self) -> Iterator[None]:
        """Raises as `check` does."""
        self.check()
        self._count += 1
        self._idle.clear()
        with self._gauge.track_inprogress():
            try:
                yield
            finally:
                self._count -= 1
                if not self._count:
                    self._idle.set()


class Entry:
    """The outermost layer of the application (ASGI)."""

    def __init__(self, app: ASGIApp, metrics: Metrics, admission: Admission) -> None:
        self._app = app
        self._metrics = metrics
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passage = _Passage(scope, receive, send)
        try:
            await self._pass(scope, passage)
        except (ClientGone, ClientDisconnect):
            passage.status = CLIENT_GONE
        except Exception as error:
            told = seen(error)
            scope["state"]["error"] = told.code
            log_failure(error, "a request", passage.request_id)
            if passage.status:
                raise  # the connection is closed: the client must not take half an answer for a whole one
            await refusal(scope, told)(scope, receive, passage.send)
        finally:
            self._record(scope, passage)

    async def _pass(self, scope: Scope, passage: "_Passage") -> None:
        if not scope["path"].startswith("/v1/"):
            await self._app(scope, passage.receive, passage.send)
            return
        with self._admission.request():
            await self._app(scope, passage.receive, passage.send)

    def _record(self, scope: Scope, passage: "_Passage") -> None:
        route = getattr(scope.get("route"), "path", "other")
        seconds = time.perf_counter() - passage.began
        self._metrics.requests.labels(route, str(passage.status)).inc()
        self._metrics.seconds.labels(route).observe(seconds, exemplar(scope["state"]["traceparent"]))
        extra: dict[str, object] = {"request_id": passage.request_id, "route": route, "status": passage.status}
        if error := scope["state"].get("error"):
            extra["error"] = error
        if answer := scope["state"].get("answer"):
            extra |= {"prompt_tokens": answer.usage.prompt, "output_tokens": answer.usage.output}
        level = logging.INFO if scope["path"].startswith("/v1/") else logging.DEBUG
        logger.log(level, "request", extra={**extra, "ms": round(seconds * 1000, 1)})


class _Passage:
    """One request on its way: bounds how long its body takes, puts the id on its answer and remembers the status."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        given, trace = headers.get("x-request-id", ""), headers.get("traceparent", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(16)}"
        self.began = time.perf_counter()
        self.status = 0
        self._patience_s = PATIENCE_S
        self._whole = False  # its body is here
        self._receive = receive
        self._send = send
        self._state = state = scope.setdefault("state", {})
        state["request_id"] = self.request_id
        state["principal"], state["grant"], state["headers"] = ANYBODY, FREE, {}
        state["traceparent"] = trace if _TRACEPARENT.fullmatch(trace) else ""

    async def receive(self) -> Message:
        """Raises ApiError (408) for a body that comes too slowly: only the time in here counts, which is the client's.

        The connection ends by `router.gateway.head`, which gives the client time to read that.
        """
        if self._whole:  # what is waited for now is that the client leaves
            return await self._receive()
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._patience_s):
                message = await self._receive()
        except TimeoutError:
            why = f"the body did not come: {LEAST} bytes a second are the least that is waited for"
            raise ApiError(HTTPStatus.REQUEST_TIMEOUT, why, code="request_timeout") from None
        earned_s = len(message.get("body", b"")) / LEAST - (time.perf_counter() - began)
        self._patience_s = min(PATIENCE_S, self._patience_s + earned_s)
        self._whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            headers.update(self._state["headers"])
        await self._send(message)
