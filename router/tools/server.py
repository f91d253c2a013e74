"""One tool server of the operator's list: the tools that the model is told of, and calls within limits. Knows no requests."""

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import mcp_types as mcp
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from router.harmony.functions import describe
from router.harmony.types import HarmonyError, Tool
from router.shares import Shares
from router.tools import content
from router.tools.config import ServerConfig
from router.tools.connection import Connection, why
from router.tools.metrics import ToolMetrics
from router.tools.types import BUILT_IN, SESSION, TENANT, TIMEOUT_S, ToolResult, ToolSpec

logger = logging.getLogger(__name__)

_MOST_TOOLS = 256
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_NEEDED: Mapping[str, frozenset[str]] = {"browser": frozenset({"search", "open", "find"}), "python": frozenset({"python"})}
"""What harmony's own declarations tell the model of."""
_CLOSED = "Connection closed"
"""How the `mcp` package tells that nobody answers any more; its code is that of others' errors, too."""
_GRACE_S = 5.0
"""Beyond the time that `python` was given, so that what was printed until then arrives."""


class McpServer:
    """Implements router.tools.types.Server."""

    def __init__(self, config: ServerConfig, metrics: ToolMetrics) -> None:
        self._config = config
        self._metrics = metrics
        self._shares = Shares(config.max_concurrent)
        self._listed: Sequence[mcp.Tool] = ()
        self._names: Mapping[str, str] = {}
        self._specs: Sequence[ToolSpec] = ()
        self.connection = Connection(config)

    @property
    def label(self) -> str:
        return self._config.label

    @property
    def url(self) -> str | None:
        return self._config.url

    @property
    def tools(self) -> Sequence[ToolSpec]:
        self._read_list()
        return self._specs

    @property
    def failure(self) -> str | None:
        if self.connection.failure:
            return self.connection.failure
        missing = _NEEDED.get(self.label, frozenset()) - {tool.name for tool in self.tools}
        return f"it has no tool {' and no tool '.join(sorted(missing))}" if missing else None

    async def call(
        self, name: str, arguments: Mapping[str, Any], timeout_s: float | None = None, session: str = "", tenant: str = ""
    ) -> ToolResult:
        began = time.perf_counter()
        most_s = min(timeout_s or self._config.timeout_s, self._config.timeout_s)
        result, outcome = await self._call(name, arguments, most_s, session, tenant)
        self._metrics.calls.labels(self.label, outcome).inc()
        self._metrics.seconds.labels(self.label).observe(time.perf_counter() - began)
        return result

    async def _call(
        self, name: str, arguments: Mapping[str, Any], most_s: float, session: str, tenant: str
    ) -> tuple[ToolResult, str]:
        """The result, and what came of the call: ok, error, timeout or failed."""
        meta: dict[str, Any] | None = None
        grace = 0.0
        if self.label in BUILT_IN:
            meta, grace = {SESSION: session, TENANT: tenant, TIMEOUT_S: most_s}, _GRACE_S
        try:
            async with asyncio.timeout(most_s + grace), self._shares.place(tenant):
                await self.connection.client()  # until then nobody knows its tools
                self._read_list()
                if name not in self._names:
                    return ToolResult(f"There is no tool {name[:64]}.", error=True), "failed"
                found = await self._ask(self._names[name], dict(arguments), meta)
        except TimeoutError:
            return ToolResult(f"The tool gave no result within {round(most_s, 1):g} seconds.", error=True), "timeout"
        except Exception as error:  # whatever a server of somebody else's sends
            logger.warning("tool server %s: the call of %s failed: %s", self.label, name, why(error))
            return ToolResult(_told(error), error=True), "failed"
        result = content.read(found, self._config.max_output)
        return result, "error" if result.error else "ok"

    async def _ask(self, name: str, arguments: dict[str, Any], meta: Any) -> mcp.CallToolResult:
        client = await self.connection.client()
        try:
            return await self._ask_once(client, name, arguments, meta)
        except MCPError as error:
            if error.code != mcp.INVALID_REQUEST:
                raise
        # Nothing was called: that is how a server that was started again says that it does not know the session.
        return await self._ask_once(await self.connection.client(), name, arguments, meta)

    async def _ask_once(self, client: Client, name: str, arguments: dict[str, Any], meta: Any) -> mcp.CallToolResult:
        try:
            return await client.call_tool(name, arguments, read_timeout_seconds=self._config.timeout_s + _GRACE_S, meta=meta)
        except MCPError as error:
            if error.message == _CLOSED or error.code == mcp.INVALID_REQUEST:
                self.connection.doubt(client)
            raise

    def _read_list(self) -> None:
        """Reads what the server listed last, once."""
        if self.connection.tools is not self._listed:
            self._listed = self.connection.tools
            self._names, self._specs = _read(self.label, self._allowed())

    def _allowed(self) -> Iterable[mcp.Tool]:
        allowed = self._config.allowed_tools
        return (tool for tool in self._listed if allowed is None or tool.name in allowed)


def _read(label: str, tools: Iterable[mcp.Tool]) -> tuple[Mapping[str, str], Sequence[ToolSpec]]:
    """The server's names for the model's, and the tools that can be shown to it."""
    names: dict[str, str] = {}
    specs: list[ToolSpec] = []
    for tool in tools:
        spec = ToolSpec(_NOT_IN_NAMES.sub("_", tool.name)[:64], tool.description or "", tool.input_schema)
        reason = _unfit(spec) or ("its name is another's" if spec.name in names else None)
        if reason or len(specs) == _MOST_TOOLS:
            logger.warning(
                "tool server %s: %s is left out: %s", label, tool.name[:64], reason or f"there are {_MOST_TOOLS} others"
            )
            continue
        names[spec.name] = tool.name
        specs.append(spec)
    return names, specs


def _unfit(spec: ToolSpec) -> str | None:
    """Why the tool cannot be rendered: found here, it is no mistake of a request's."""
    try:
        describe(Tool(spec.name, spec.description, spec.parameters), "tool")
    except HarmonyError as error:
        return str(error)
    return None


def _told(error: Exception) -> str:
    if isinstance(error, MCPError):
        if error.message == _CLOSED:
            return "The connection to the tool was lost; whether the call took place is not known."
        return f"The call failed: {error.message[:500]}"
    return "The tool's answer could not be read."
