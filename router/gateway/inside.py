"""Requests that come from the gateway itself: an endpoint asked as if by HTTP, under a caller's name. Knows no endpoint."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from router.access.access import Access
from router.access.audit import counts, who
from router.access.grant import FREE, Grant
from router.access.principal import Principal
from router.gateway.dialects import body as refused
from router.gateway.errors import ApiError, Json, dumps, log_failure, seen

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Reply:
    """`retry_after_s` where the same request may go well later."""

    status: int
    body: Json
    retry_after_s: float | None = None


class Inside:
    """Endpoints of POST, by their paths. `access` counts what their callers use."""

    def __init__(self, routes: Iterable[Route], access: Access | None) -> None:
        self._handlers: dict[str, Handler] = {
            route.path: route.endpoint for route in routes if route.methods and "POST" in route.methods
        }
        self._access = access

    async def post(self, path: str, body: bytes, principal: Principal, request_id: str, priority: int, batch: str) -> Reply:
        """What a client with this body would get, unless it asks for a stream. None of its Submits has a higher priority.

        It has a line in the audit log, which names the batch.
        """
        began = time.perf_counter()
        async with self._access.patient(principal) if self._access else FREE as grant:
            state: dict[str, Any] = {
                "request_id": request_id,
                "traceparent": "",
                "principal": principal,
                "grant": grant,
                "headers": {},
                "priority": priority,
            }
            reply = await self._answered(path, _Exchange(path, body, state), grant)
        if self._access and (audit := self._access.audit):
            entry = {"request_id": request_id, **who(principal), "batch": batch, "method": "POST", "path": path}
            spent = {"status": reply.status, "ms": round((time.perf_counter() - began) * 1000, 1)}
            said = {"request": body.decode("utf-8", "replace"), "answer": dumps(reply.body)} if audit.contents else {}
            audit.write({**entry, **spent, **counts(state.get("answer")), **said})
        return reply

    async def _answered(self, path: str, exchange: "_Exchange", grant: Grant) -> Reply:
        state = exchange.scope["state"]
        try:
            response = await self._handlers[path](Request(exchange.scope, exchange.receive))
            await response(exchange.scope, exchange.receive, exchange.send)
            return Reply(exchange.status, json.loads(bytes(exchange.body)))
        except Exception as error:
            log_failure(error, "a request", state["request_id"])
            grant.settle_by(state.get("answer"), failed=True)
            told = seen(error)
            return Reply(told.status, refused(path, told), _retry(told))
        finally:
            grant.settle_by(state.get("answer"))


class _Exchange:
    """One request as ASGI has it (https://asgi.readthedocs.io/en/latest/specs/www.html), whose client never leaves."""

    def __init__(self, path: str, body: bytes, state: MutableMapping[str, Any]) -> None:
        self.scope: MutableMapping[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "state": state,
        }
        self.status = 0
        self.body = bytearray()
        self._unread: list[Message] = [{"type": "http.request", "body": body}]

    async def receive(self) -> Message:
        if self._unread:
            return self._unread.pop()
        await asyncio.Event().wait()
        raise AssertionError("nothing wakes it")

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message.get("body", b"")


def _retry(error: ApiError) -> float | None:
    """What is full or away now may not be later; a budget that is used up stays so for the day."""
    if error.status not in (429, 503) or error.code == "insufficient_quota":
        return None
    return error.retry_after_s or 1.0
