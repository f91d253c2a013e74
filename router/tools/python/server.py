"""The `python` tool as an MCP server, whatever carries its messages. Knows no model.

The tool has the name and the argument that OpenAI's own server for gpt-oss gives it:
https://github.com/openai/gpt-oss/tree/main/gpt-oss-mcp-server
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import mcp_types as mcp
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS

from ossia.common.errors import UserError
from router.tools.python.lockdown import Limits
from router.tools.python.sessions import Sessions
from router.tools.types import SESSION, TENANT, TIMEOUT_S

_TOOL = mcp.Tool(
    name="python",
    description="Runs Python and returns what it prints, and what its last expression is worth. No network, no other programs; "
    "variables and files are kept from call to call of a session.",
    input_schema={"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
)


@dataclass(frozen=True)
class PythonConfig:
    """`timeout_s` is what a cell may take where the caller asks for no less; `output` in bytes."""

    limits: Limits = Limits()
    timeout_s: float = 120.0
    output: int = 64 << 10


class PythonTool:
    """Answers the protocol's two questions: which tools there are, and what a call yields."""

    def __init__(self, config: PythonConfig) -> None:
        self._config = config
        self._sessions = Sessions(config.limits, config.output)
        self.server = Server("ossia-python", on_list_tools=self._list, on_call_tool=self._call)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ends what runs at the end. Raises UserError where this host cannot lock a process."""
        tried = await self._sessions.run("", "", self._config.timeout_s)
        if tried.error:
            raise UserError(tried.text.splitlines()[0])
        try:
            yield
        finally:
            await self._sessions.close()

    async def _list(self, context: ServerRequestContext, params: mcp.PaginatedRequestParams | None) -> mcp.ListToolsResult:
        return mcp.ListToolsResult(tools=[_TOOL])

    async def _call(self, context: ServerRequestContext, params: mcp.CallToolRequestParams) -> mcp.CallToolResult:
        code = (params.arguments or {}).get("code")
        if params.name != _TOOL.name or not isinstance(code, str):
            raise MCPError(INVALID_PARAMS, "the tool is python, and its argument is code, a string")
        meta = dict(context.meta or {})
        asked, (session, tenant) = meta.get(TIMEOUT_S), (_text(meta.get(name)) for name in (SESSION, TENANT))
        timeout_s = min(asked, self._config.timeout_s) if isinstance(asked, int | float) else self._config.timeout_s
        result = await self._sessions.run(session, code, timeout_s, tenant)
        return mcp.CallToolResult(content=[mcp.TextContent(type="text", text=result.text)], is_error=result.error)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


async def serve_stdio(config: PythonConfig) -> None:
    """Until stdin ends. Raises UserError."""
    tool = PythonTool(config)
    async with tool.running(), stdio_server() as (read, write):
        await tool.server.run(read, write, tool.server.create_initialization_options())
