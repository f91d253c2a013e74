"""The tool as MCP servers have it: over stdio and over HTTP, with a client of the `mcp` package."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from ossia.common.errors import UserError
from router.gateway.server import listen, serving
from router.tools.python.http import application
from router.tools.python.lockdown import Limits
from router.tools.python.server import PythonConfig, PythonTool
from router.tools.types import SESSION, TENANT, TIMEOUT_S
from tests.router.tools.python.conftest import needs_lock

pytestmark = needs_lock


async def _text(client: Client, code: object, **meta: object) -> str:
    result = await client.call_tool("python", {"code": code}, meta=meta)  # type: ignore[arg-type]
    return result.content[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_over_stdio(mode: str) -> None:
    command = StdioServerParameters(
        command=sys.executable, args=["-I", "-m", "router.tools.python", str(Limits().memory), "60", "1000"]
    )
    async with Client(command, mode=mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["python"]
        assert await _text(client, "x = 1; x", **{SESSION: "a"}) == "1\n"
        assert await _text(client, "x + 1", **{SESSION: "a"}) == "2\n"
        assert "NameError" in await _text(client, "x", **{TENANT: "acme"})
        assert "took longer than 0.2 seconds" in await _text(client, "while True: pass", **{TIMEOUT_S: 0.2})
        with pytest.raises(MCPError, match="argument is code"):
            await _text(client, 1)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A server that demands a token."""
    tool = PythonTool(PythonConfig(output=1000))
    bound = listen("127.0.0.1", 0)
    async with tool.running(), serving(application(tool, "127.0.0.1", "secret"), bound):
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/mcp"


async def test_a_client_over_http(url: str) -> None:
    headers = {"authorization": "Bearer secret"}
    async with httpx2.AsyncClient(headers=headers) as http, Client(streamable_http_client(url, http_client=http)) as client:
        assert await _text(client, "x = 1; x", **{SESSION: "a"}) == "1\n"
    async with httpx2.AsyncClient(headers=headers) as http, Client(streamable_http_client(url, http_client=http)) as client:
        assert await _text(client, "x", **{SESSION: "a"}) == "1\n"


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer other"}, {"authorization": "secret"}])
async def test_who_does_not_know_the_token_is_refused(url: str, headers: dict[str, str]) -> None:
    async with httpx2.AsyncClient(headers=headers) as http:
        assert (await http.post(url, json={})).status_code == 401


async def test_a_host_that_cannot_lock_refuses_to_serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\necho python needs Landlock\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UserError, match="python needs Landlock"):
        async with PythonTool(PythonConfig()).running():
            pass
