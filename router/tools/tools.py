"""The tool servers that requests may name: those of the operator's list, and no other. Knows no protocol."""

import json
from collections.abc import Iterable, Mapping

from router.tools.types import Server, ToolResult


class Tools:
    """`servers` by label; `max_calls` is the most calls of one response."""

    def __init__(self, servers: Iterable[Server] = (), max_calls: int = 64) -> None:
        self.servers: Mapping[str, Server] = {server.label: server for server in servers}
        self.max_calls = max_calls

    def find(self, label: str, url: str | None) -> Server | None:
        """The server at this address or, where a request gives none, of this label; None where the list has no such server."""
        if url is None:
            return self.servers.get(label)
        return next((server for server in self.servers.values() if server.url == url), None)


async def invoke(server: Server, name: str, written: str, timeout_s: float | None = None, session: str = "") -> ToolResult:
    """Calls a tool with what the model wrote: code for `python`, JSON for any other. What is no JSON is a failed call."""
    if server.label == "python":
        return await server.call(name, {"code": written}, timeout_s, session)
    try:
        arguments = json.loads(written or "{}")
    except (ValueError, RecursionError) as error:
        return ToolResult(f"The arguments are not JSON: {error}", error=True)
    if not isinstance(arguments, dict):
        return ToolResult("The arguments must be a JSON object.", error=True)
    return await server.call(name, arguments, timeout_s, session)
