"""The `python` tool over HTTP, for a host of its own: a bound socket, a token, an orderly end. Knows no model."""

import asyncio
import hmac
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import click
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ossia.common import logs
from router.gateway.server import listen, serving
from router.tools.python.server import PythonConfig, PythonTool


def run(config: PythonConfig, host: str, port: int, token: str | None, log_folder: Path | None) -> None:
    """Serves http://HOST:PORT/mcp until SIGTERM or SIGINT; demands the token, if any, as a bearer. Raises UserError."""
    bound = listen(host, port)
    logs.configure("python-tool", log_folder)
    asyncio.run(_run(PythonTool(config), bound, host, token))


def application(tool: PythonTool, host: str, token: str | None) -> ASGIApp:
    """The tool at /mcp. Sessions are in each call, not in the connection, so that any process of several can answer."""
    app: ASGIApp = tool.server.streamable_http_app(stateless_http=True, host=host)
    return app if token is None else _Guarded(app, token)


async def _run(tool: PythonTool, bound: socket.socket, host: str, token: str | None) -> None:
    stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _settle(stop))
    async with tool.running(), serving(application(tool, host, token), bound) as task:
        click.echo(f"ossia python-tool on http://{host}:{bound.getsockname()[1]}/mcp")
        await asyncio.wait({stop, task}, return_when=asyncio.FIRST_COMPLETED)


def _settle(stop: "asyncio.Future[None]") -> Callable[[], None]:
    return lambda: None if stop.done() else stop.set_result(None)


class _Guarded:
    """Lets in who knows the token (ASGI)."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._may(Headers(scope=scope)):
            await PlainTextResponse("a bearer token is needed", 401)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _may(self, headers: Headers) -> bool:
        return hmac.compare_digest(headers.get("authorization", "").encode(), self._expected)
