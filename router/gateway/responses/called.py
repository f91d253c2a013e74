"""Calls that the gateway makes itself: to servers of the operator's list, to the browser, to Python; each with its events.

What clients do not see of an item, but later prompts need, is under names that begin with an underscore.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic_core import from_json

from router.gateway.errors import Json, dumps
from router.gateway.responses.written import Written
from router.tools.types import Server, ToolResult, ToolSpec


class ApprovalRequest(Written):
    """A call that the client is asked about before it is made."""

    prefix = "mcpr"

    def __init__(self, stem: str, place: int, label: str, name: str) -> None:
        super().__init__(stem, place)
        self._label = label
        self._name = name

    def item(self, status: str) -> Json:
        own: Json = {"id": self.id, "type": "mcp_approval_request", "server_label": self._label}
        return {**own, "name": self._name, "arguments": self.text}

    def _added(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        yield from ()


class Called(Written):
    """A call that is made once it is written: `asked`, then `call`, then `answered`."""

    events: ClassVar[str]  # how those of its state begin
    working: ClassVar[str] = ""  # what that state is called while the tool works, where there is an event for it

    def __init__(self, stem: str, place: int, server: Server, tool: str) -> None:
        super().__init__(stem, place)
        self._server = server
        self._tool = tool
        self._result: ToolResult | None = None

    @property
    def session(self) -> str:
        """What calls that share the tool's state have in common; empty for those that share none."""
        return ""

    def begin(self) -> Iterator[Json]:
        yield from super().begin()
        yield self._told(f"{self.events}.in_progress")

    def asked(self) -> Iterator[Json]:
        """The call is whole, and is being made."""
        yield from self._closed()
        if self.working:
            yield self._told(f"{self.events}.{self.working}")

    async def call(self, tenant: str) -> ToolResult:
        """Makes it. What goes wrong is part of the result."""
        try:
            arguments = self._arguments()
        except ValueError as error:
            return ToolResult(f"The arguments are no JSON object: {error}", error=True)
        session = dumps([tenant, self.session]) if self.session else ""  # no other tenant's, whatever either is called
        return await self._server.call(self._tool, arguments, session=session, tenant=tenant)

    def answered(self, result: ToolResult) -> Iterator[Json]:
        """The tool's word."""
        self._result = result
        status = "failed" if result.error else "completed"
        yield self._told(f"{self.events}.{self._outcome(status)}")
        yield {"type": "response.output_item.done", "output_index": self.place, "item": self.item(status)}

    def _arguments(self) -> Json:
        """What the tool is given. Raises ValueError."""
        arguments = from_json(self.text or "{}", allow_inf_nan=False)
        if not isinstance(arguments, dict):
            raise ValueError("another value is there")
        return arguments

    def _outcome(self, status: str) -> str:
        """What the event at its end is called."""
        return "completed"


class McpCall(Called):
    """A call of a tool of a server of the operator's."""

    prefix = "mcp"
    events = "response.mcp_call"

    def __init__(self, stem: str, place: int, label: str, name: str, server: Server, approval: str | None = None) -> None:
        super().__init__(stem, place, server, name)
        self._label = label
        self._approval = approval

    def item(self, status: str) -> Json:
        result = self._result
        return {
            "id": self.id,
            "type": "mcp_call",
            "status": status,
            "server_label": self._label,
            "name": self._tool,
            "arguments": self.text,
            "approval_request_id": self._approval,
            "output": result.text if result and not result.error else None,
            "error": _error(result.text) if result and result.error else None,
        }

    def _added(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        yield self._told("response.mcp_call_arguments.delta", delta=text)

    def _closed(self) -> Iterator[Json]:
        yield self._told("response.mcp_call_arguments.done", arguments=self.text)

    def _outcome(self, status: str) -> str:
        return status


class SearchCall(Called):
    """What the model does with the browser."""

    prefix = "ws"
    events = "response.web_search_call"
    working = "searching"

    def __init__(self, stem: str, place: int, tool: str, server: Server) -> None:
        super().__init__(stem, place, server, tool)

    def item(self, status: str) -> Json:
        results = [{"type": "text", "text": self._result.text}] if self._result else None
        own: Json = {"id": self.id, "type": "web_search_call", "status": status, "action": self._action()}
        return {**own, "results": results, "_tool": self._tool, "_arguments": self.text}

    def _added(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        yield from ()

    def _action(self) -> Json:
        """As far as it is known: nothing is while it is being written."""
        try:
            asked = {name: str(value) for name, value in self._arguments().items()}
        except ValueError:
            asked = {}
        match self._tool:
            case "open":
                return {"type": "open_page", "url": asked.get("id")}
            case "find":
                return {"type": "find_in_page", "pattern": asked.get("pattern", ""), "url": asked.get("cursor", "")}
            case _:
                query = asked.get("query", "")
                return {"type": "search", "query": query, "queries": [query]}


class CodeCall(Called):
    """What the model runs in Python."""

    prefix = "ci"
    events = "response.code_interpreter_call"
    working = "interpreting"

    def __init__(self, stem: str, place: int, container: str, server: Server) -> None:
        super().__init__(stem, place, server, "python")
        self._container = container

    @property
    def session(self) -> str:
        return self._container

    def _arguments(self) -> Json:
        """The code as it is, without JSON around it: so the model was trained to write it."""
        return {"code": self.text}

    def item(self, status: str) -> Json:
        outputs = [{"type": "logs", "logs": self._result.text}] if self._result else None
        own: Json = {"id": self.id, "type": "code_interpreter_call", "status": status, "code": self.text}
        return {**own, "container_id": self._container, "outputs": outputs}

    def _added(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        yield self._told("response.code_interpreter_call_code.delta", delta=text)

    def _closed(self) -> Iterator[Json]:
        yield self._told("response.code_interpreter_call_code.done", code=self.text)


def listing(label: str, specs: Sequence[ToolSpec], failure: str | None, stem: str, place: int) -> Iterator[Json]:
    """The events of the item at `place`, which tells which tools a server has."""
    id_ = f"mcpl_{stem}o{place:05d}"
    tools = [
        {"name": spec.name, "description": spec.description, "input_schema": dict(spec.parameters), "annotations": None}
        for spec in specs
    ]
    item: Json = {"id": id_, "type": "mcp_list_tools", "server_label": label, "tools": tools, "error": failure}
    yield {"type": "response.output_item.added", "output_index": place, "item": {**item, "tools": [], "error": None}}
    for state in ("in_progress", "failed" if failure else "completed"):
        yield {"type": f"response.mcp_list_tools.{state}", "item_id": id_, "output_index": place}
    yield {"type": "response.output_item.done", "output_index": place, "item": item}


def result_of(item: Json) -> str:
    """What the model read of a tool's result, as an item of any of these kinds tells it."""
    match item:
        case {"type": "mcp_call", "output": str(output)}:
            return output
        case {"type": "mcp_call", "error": {"content": [{"text": str(text)}]}} | {"type": "mcp_call", "error": str(text)}:
            return text
        case {"results": [{"text": str(text)}]}:
            return text
        case {"outputs": [*outputs]}:
            return "\n".join(str(output.get("logs", "")) for output in outputs if isinstance(output, dict))
    return ""


def _error(text: str) -> Json:
    return {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]}
