"""The tool servers that requests may name: those of the operator's list, and no other. Knows no protocol."""

from collections.abc import Iterable, Mapping

from router.tools.types import Server


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
