"""A tool server (MCP) that does what tool servers do wrong. `python -m tests.fakes.tools [TOOL...]` serves it over stdio."""

import asyncio
import os
import sys
from collections.abc import Sequence

import mcp_types as mcp
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

ALL = ("echo", "fail", "refuse", "crash", "sleep", "long", "lie", "exit", "change")
_ANYTHING = {"type": "object"}


class Misbehaving:
    """Offers `names`; every call is counted in `calls`, and calls of `sleep` that were cancelled in `cancelled`.

    A `legacy` one knows no version of the protocol without sessions.
    """

    def __init__(self, names: Sequence[str] = ALL, legacy: bool = False) -> None:
        self.names = list(names)
        self.calls = 0
        self.cancelled = 0
        self.listed = 0
        self.server = Server("misbehaving", on_list_tools=self._list, on_call_tool=self._call)
        if legacy:
            self.server.add_request_handler("server/discover", mcp.RequestParams, _unknown)

    async def _list(self, context: ServerRequestContext, params: mcp.PaginatedRequestParams | None) -> mcp.ListToolsResult:
        """One tool a page, each counted in `listed`."""
        self.listed += 1
        place = int(params.cursor) if params and params.cursor else 0
        after = str(place + 1) if place + 1 < len(self.names) else None
        return mcp.ListToolsResult(tools=[_tool(self.names[place])], next_cursor=after)

    async def _call(self, context: ServerRequestContext, params: mcp.CallToolRequestParams) -> mcp.CallToolResult:
        self.calls += 1
        match params.name:
            case "fail":
                return _result("it is broken", is_error=True)
            case "refuse":
                raise MCPError(-32001, "not today")
            case "crash":
                raise RuntimeError("a bug")
            case "sleep":
                await self._sleep()
            case "long":
                return _result("a" * 1_000_000)
            case "exit":
                os._exit(1)
            case "change":
                self.names.append("new")
                await context.session.send_tool_list_changed()
        return _result(f"{params.name} {params.arguments} {dict(context.meta or {}).get('ossia/session')}")

    async def _sleep(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def _unknown(context: ServerRequestContext, params: mcp.RequestParams) -> mcp.DiscoverResult:
    raise MCPError(mcp.METHOD_NOT_FOUND, "no such method")


def _tool(name: str) -> mcp.Tool:
    output = {"type": "object", "required": ["never"]} if name == "lie" else None
    description = "a" * 2000 if name == "unfit" else f"Does {name}."
    return mcp.Tool(name=name, description=description, input_schema=_ANYTHING, output_schema=output)


def _result(text: str, is_error: bool = False) -> mcp.CallToolResult:
    return mcp.CallToolResult(content=[mcp.TextContent(type="text", text=text)], is_error=is_error)


async def _main() -> None:
    server = Misbehaving(sys.argv[1:] or ALL).server
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(_main())
