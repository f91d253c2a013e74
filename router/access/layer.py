"""The layer of the application (ASGI) that lets requests in: their caller, their grant, their line in the audit log."""

import time
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.access.access import Access
from router.access.audit import Audit, counts, who
from router.gateway.entry import CLIENT_GONE
from router.gateway.errors import ApiError, ClientGone, seen

PUBLIC = frozenset({"/", "/health", "/ready", "/metrics", "/metrics/targets", "/openapi.json", "/docs"})
"""Paths that tell nothing about anybody; every other one asks for credentials, also those that do not exist."""


MOST = 32 << 20  # bytes of a body that the audit log keeps: all but those of large files


class Layer:
    """Around everything that has a caller. Sets the request's `principal`, `grant` and, for its answer, `headers`."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PUBLIC:
            await self._app(scope, receive, send)
        elif audit := self._access.audit:
            record = _Record(audit, scope, receive, send)
            try:
                await self._admit(scope, record.receive, record.send)
            except BaseException as error:
                record.status = record.status or _status(error)
                raise
            finally:
                record.write()
        else:
            await self._admit(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        try:
            state["principal"] = await self._access.authenticate(Headers(scope=scope))
        except ApiError as error:
            if error.status == HTTPStatus.UNAUTHORIZED:
                state["headers"] = {"www-authenticate": "Bearer"}
            raise
        async with self._access.grant(state["principal"]) as grant:
            state["grant"], state["headers"] = grant, grant.headers
            try:
                await self._app(scope, receive, send)
            except (ClientGone, ClientDisconnect):
                raise
            except Exception:
                grant.settle_by(state.get("answer"), failed=True)
                raise
            finally:
                grant.settle_by(state.get("answer"), failed="error" in state)  # that of a stream, told as its event


def _status(error: BaseException) -> int:
    """Of what is answered further out."""
    if isinstance(error, ClientGone | ClientDisconnect):
        return CLIENT_GONE
    return seen(error).status if isinstance(error, Exception) else HTTPStatus.INTERNAL_SERVER_ERROR


class _Record:
    """What the audit log is told of one request."""

    def __init__(self, audit: Audit, scope: Scope, receive: Receive, send: Send) -> None:
        self._audit = audit
        self._scope = scope
        self._receive = receive
        self._send = send
        self._began = time.perf_counter()
        self._request = bytearray()
        self._answer = bytearray()
        self.status = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._keep(self._request, message)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self._keep(self._answer, message)
        await self._send(message)

    def _keep(self, contents: bytearray, message: Message) -> None:
        if self._audit.contents:
            contents += message.get("body", b"")[: MOST - len(contents)]

    def write(self) -> None:
        scope, state = self._scope, self._scope["state"]
        entry: dict[str, object] = {
            "request_id": state["request_id"],
            **who(state["principal"]),
            "client": scope["client"][0] if scope.get("client") else "",
            "method": scope["method"],
            "path": scope["path"],
            "status": self.status,
            "ms": round((time.perf_counter() - self._began) * 1000, 1),
            **counts(state.get("answer")),
        }
        if self._audit.contents:
            entry |= {name: data.decode("utf-8", "replace") for name, data in self._contents}
        self._audit.write(entry)

    @property
    def _contents(self) -> tuple[tuple[str, bytearray], ...]:
        return ("request", self._request), ("answer", self._answer)
