"""Requests that come from the gateway itself: an endpoint asked as if by HTTP, under a caller's name. Knows no endpoint."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from router.access.access import Access
from router.access.grant import FREE
from router.access.principal import Principal
from router.gateway.dialects import body as refused
from router.gateway.errors import ApiError, Json, log_failure, seen

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

    async def post(self, path: str, body: bytes, principal: Principal, request_id: str, priority: int) -> Reply:
        """What a client with this body would get, unless it asks for a stream. None of its Submits has a higher priority."""
        async with AsyncExitStack() as stack:
            grant = await stack.enter_async_context(self._access.background(principal, request_id)) if self._access else FREE
            state: dict[str, Any] = {
                "request_id": request_id,
                "traceparent": "",
                "principal": principal,
                "grant": grant,
                "headers": {},
                "priority": priority,
            }
            exchange = _Exchange(path, body, state)
            try:
                response = await self._handlers[path](Request(exchange.scope, exchange.receive))
                await response(exchange.scope, exchange.receive, exchange.send)
                return Reply(exchange.status, json.loads(bytes(exchange.body)))
            except Exception as error:
                log_failure(error, "a request", request_id)
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
