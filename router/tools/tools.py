"""The tool servers that requests may name: those of the operator's list, and no other. Knows no protocol."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from router.tools.types import Server, ToolResult, ToolSpec


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


@dataclass(frozen=True)
class _Recalled:
    """A server with what was known of it, whatever is known of it now."""

    server: Server
    tools: Sequence[ToolSpec]
    failure: str | None

    @property
    def label(self) -> str:
        return self.server.label

    @property
    def url(self) -> str | None:
        return self.server.url

    async def call(
        self, name: str, arguments: Mapping[str, Any], timeout_s: float | None = None, session: str = "", tenant: str = ""
    ) -> ToolResult:
        return await self.server.call(name, arguments, timeout_s, session, tenant)


class Recalled(Tools):
    """The same servers for a request that was offered their tools before: `known` are these and the failure of each, by the
    label that the request gives it.
    """

    def __init__(self, tools: Tools, known: Mapping[str, tuple[Sequence[ToolSpec], str | None]]) -> None:
        super().__init__(tools.servers.values(), tools.max_calls)
        self._known = known

    def find(self, label: str, url: str | None) -> Server | None:
        found = super().find(label, url)
        return _Recalled(found, *self._known[label]) if found and label in self._known else found
