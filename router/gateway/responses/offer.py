"""The tools that a model may call in one response: what it calls them, what holds their arguments, how calls are shown."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from ossia.v1 import engine_pb2
from router.gateway.arguments import held, unheld
from router.gateway.errors import Json, dumps, invalid
from router.gateway.responses import custom
from router.gateway.responses.called import ApprovalRequest, CodeCall, McpCall, SearchCall, listing
from router.gateway.responses.schema import Context
from router.gateway.responses.tools import (
    AllowedTools,
    BuiltInChoice,
    Chosen,
    CodeTool,
    CustomTool,
    FunctionTool,
    McpChoice,
    McpTool,
    NamedChoice,
    SearchTool,
)
from router.gateway.responses.written import CustomCall, FunctionCall, Written
from router.harmony.builtin import BUILT_IN
from router.harmony.types import Namespace, Tool
from router.tools.tools import Recalled, Tools
from router.tools.types import Server, ToolSpec


def mcp_name(label: str, tool: str) -> str:
    """What the model calls a server's tool: an address of harmony's."""
    return f"{label}.{tool}"


@dataclass(frozen=True)
class Offered(ABC):
    """One tool. `name` is the model's, without `functions.`; `place` that in the request's `tools`."""

    place: int
    name: str
    ours: ClassVar[bool] = True  # the gateway calls it

    @property
    def address(self) -> str:
        return f"functions.{self.name}"

    @property
    def described(self) -> Tool | None:
        """What the prompt says of it as a function; None for what is no function of the client's."""
        return None

    @property
    def arguments(self) -> Json | None:
        """What arguments are held to; None: any text."""
        return None

    @property
    def unheld(self) -> Json | None:
        """What it says of them, where that is more."""
        return None

    @property
    def held_by(self) -> str | None:
        """The parameter that only a grammar can meet, for this tool."""
        return None

    @abstractmethod
    def chosen(self, choice: Chosen) -> bool:
        """Whether that choice means this tool."""

    @abstractmethod
    def write(self, stem: str, place: int, call_id: str) -> Written:
        """A call of it, to be written as the item at `place`."""


@dataclass(frozen=True)
class OfferedFunction(Offered):
    tool: FunctionTool
    ours = False

    @property
    def described(self) -> Tool:
        return Tool(self.name, self.tool.description, self.tool.parameters)

    @property
    def arguments(self) -> Json:
        return held(self.tool.parameters, bool(self.tool.strict))

    @property
    def unheld(self) -> Json | None:
        return unheld(self.tool.parameters, bool(self.tool.strict))

    @property
    def held_by(self) -> str | None:
        return f"tools[{self.place}].strict" if self.tool.strict else None

    def chosen(self, choice: Chosen) -> bool:
        return isinstance(choice, NamedChoice) and (choice.type, choice.name) == ("function", self.name)

    def write(self, stem: str, place: int, call_id: str) -> Written:
        return FunctionCall(stem, place, call_id, self.name)


@dataclass(frozen=True)
class OfferedCustom(Offered):
    tool: CustomTool
    ours = False

    @property
    def described(self) -> Tool:
        return Tool(self.name, self.tool.description, custom.parameters(None))

    @property
    def arguments(self) -> Json:
        return custom.parameters(self.tool.pattern)

    @property
    def held_by(self) -> str | None:
        return None if self.tool.pattern is None else f"tools[{self.place}].format"

    def chosen(self, choice: Chosen) -> bool:
        return isinstance(choice, NamedChoice) and (choice.type, choice.name) == ("custom", self.name)

    def write(self, stem: str, place: int, call_id: str) -> Written:
        return CustomCall(stem, place, call_id, self.name)


@dataclass(frozen=True)
class OfferedMcp(Offered):
    """One tool of a server of the operator's; `name` is its address."""

    tool: McpTool
    server: Server
    spec: ToolSpec

    @property
    def address(self) -> str:
        return self.name

    @property
    def arguments(self) -> Json:
        return held(self.spec.parameters, strict=False)

    @property
    def unheld(self) -> Json | None:
        return unheld(self.spec.parameters, strict=False)

    def chosen(self, choice: Chosen) -> bool:
        ours = isinstance(choice, McpChoice) and choice.server_label == self.tool.server_label
        return ours and getattr(choice, "name", None) in (None, self.spec.name)

    def write(self, stem: str, place: int, call_id: str) -> Written:
        label = self.tool.server_label
        if self.tool.needs_approval(self.spec.name):
            return ApprovalRequest(stem, place, label, self.spec.name)
        return McpCall(stem, place, label, self.spec.name, self.server)


@dataclass(frozen=True)
class OfferedSearch(Offered):
    """One function of the browser; `name` is its address."""

    server: Server
    declared: Tool

    @property
    def address(self) -> str:
        return self.name

    @property
    def arguments(self) -> Json:
        return held(self.declared.parameters, strict=False)

    @property
    def unheld(self) -> Json | None:
        return unheld(self.declared.parameters, strict=False)

    def chosen(self, choice: Chosen) -> bool:
        return isinstance(choice, BuiltInChoice) and choice.type.startswith("web_search")

    def write(self, stem: str, place: int, call_id: str) -> Written:
        return SearchCall(stem, place, self.declared.name, self.server)


@dataclass(frozen=True)
class OfferedPython(Offered):
    server: Server
    container: str

    @property
    def address(self) -> str:
        return self.name

    def chosen(self, choice: Chosen) -> bool:
        return isinstance(choice, BuiltInChoice) and choice.type == "code_interpreter"

    def write(self, stem: str, place: int, call_id: str) -> Written:
        return CodeCall(stem, place, self.container, self.server)


@dataclass(frozen=True)
class Offer:
    """All tools of a request: those that the prompt tells of, those that may be called, and those of the first turn."""

    tools: Sequence[Offered] = ()
    callable: Sequence[Offered] = ()
    first: Sequence[Offered] = ()
    must_call: bool = False
    servers: Mapping[str, Server] = field(default_factory=dict)  # by the labels that the request gives them

    @property
    def described(self) -> list[Tool]:
        return [tool.described for tool in self.tools if tool.described]

    @property
    def namespaces(self) -> list[Namespace]:
        """What the prompt says of those that the gateway calls."""
        labels = dict.fromkeys(tool.address.partition(".")[0] for tool in self.tools if not tool.described)
        return [BUILT_IN.get(label) or self._namespace(label) for label in labels]

    def find(self, name: str) -> Offered | None:
        return next((tool for tool in self.tools if tool.name == name), None)

    def needing_grammar(self) -> Iterator[str]:
        """The parameters that only a grammar can meet."""
        yield from (param for tool in self.callable if (param := tool.held_by))
        if self.must_call or len(self.first) < len(self.tools):
            yield "tool_choice"

    def known(self) -> Json:
        """The tools of each server and its failure, for `recalled`."""
        return {
            label: {"tools": [asdict(tool.spec) for tool in self._of(label)], "failure": server.failure}
            for label, server in self.servers.items()
        }

    def listing(self, label: str, stem: str, place: int) -> Iterator[Json]:
        """The events of an item at `place` that tells which tools a server has."""
        return listing(label, [tool.spec for tool in self._of(label)], self.servers[label].failure, stem, place)

    def hold(self, grammar: engine_pb2.Grammar, callable_: Iterable[Offered], must_call: bool, declarations: bool) -> None:
        """Lets these be called and no other; with `declarations`, the engine is told what they say of arguments as well."""
        for tool in callable_:
            parameters = None if tool.arguments is None else dumps(tool.arguments)
            declared = dumps(tool.unheld) if declarations and tool.unheld else None
            grammar.functions.add(recipient=tool.address, parameters=parameters, declared=declared)
        if must_call and grammar.functions:
            grammar.tool_choice = engine_pb2.TOOL_CHOICE_REQUIRED

    def _of(self, label: str) -> list[OfferedMcp]:
        return [tool for tool in self.tools if isinstance(tool, OfferedMcp) and tool.tool.server_label == label]

    def _namespace(self, label: str) -> Namespace:
        ours = self._of(label)
        tools = (Tool(each.name[len(label) + 1 :], each.spec.description, each.spec.parameters) for each in ours)
        return Namespace(label, ours[0].tool.server_description, tuple(tools))


def recalled(tools: Tools, known: Any) -> Tools:
    """The servers with the tools that an offer had, by its `known`."""
    return Recalled(
        tools, {label: ([ToolSpec(**spec) for spec in each["tools"]], each["failure"]) for label, each in known.items()}
    )


def offer(body: Context, servers: Tools, container: str) -> Offer:
    """What the request offers. `container` is where Python runs unless it says. Raises ApiError."""
    tools = list(_offered(body, servers, container))
    labels = {
        tool.server_label: server_of(tool, servers, place)
        for place, tool in enumerate(body.tools or ())
        if isinstance(tool, McpTool)
    }
    names = [tool.name for tool in tools]
    if double := next((tool for tool in tools if names.count(tool.name) > 1), None):
        raise invalid(f"two tools have the name '{double.name}'", f"tools[{double.place}]")
    choice = body.tool_choice
    if choice == "none":
        return Offer()
    if choice is None or isinstance(choice, str):
        chosen, must_call = tools, choice == "required"
    else:
        wanted = choice.tools if isinstance(choice, AllowedTools) else [choice]
        chosen = [tool for tool in tools if any(tool.chosen(each) for each in wanted)]
        must_call = not isinstance(choice, AllowedTools) or choice.mode == "required"
    if not chosen and (must_call or isinstance(choice, AllowedTools)):
        raise invalid("'tool_choice' asks for a call, and names none of the 'tools'", "tool_choice")
    return Offer(tools, chosen if isinstance(choice, AllowedTools) else tools, chosen, must_call, labels)


def _offered(body: Context, servers: Tools, container: str) -> Iterator[Offered]:
    for place, tool in enumerate(body.tools or ()):
        match tool:
            case FunctionTool():
                yield OfferedFunction(place, tool.name, tool)
            case CustomTool():
                yield OfferedCustom(place, tool.name, tool)
            case McpTool():
                server = server_of(tool, servers, place)
                for spec in server.tools:
                    if tool.allows(spec.name):
                        yield OfferedMcp(place, mcp_name(tool.server_label, spec.name), tool, server, spec)
            case SearchTool():
                browser = _built_in("browser", servers, place)
                for declared in BUILT_IN["browser"].tools:
                    yield OfferedSearch(place, f"browser.{declared.name}", browser, declared)
            case CodeTool():
                where = tool.container if isinstance(tool.container, str) else container
                yield OfferedPython(place, "python", _built_in("python", servers, place), where)


def server_of(tool: McpTool, servers: Tools, place: int) -> Server:
    """The operator's server that the tool means, by its address or its label. Raises ApiError."""
    found = servers.find(tool.server_label, tool.server_url)
    if found is None or tool.server_label in (*BUILT_IN, "functions"):
        param = f"tools[{place}].{'server_label' if tool.server_url is None else 'server_url'}"
        raise invalid("the operator's list of tool servers has no such server", param, "unsupported_value")
    return found


def _built_in(label: str, servers: Tools, place: int) -> Server:
    found = servers.find(label, None)
    if found is None:
        raise invalid(f"this gateway has no '{label}' tool", f"tools[{place}].type", "unsupported_value")
    return found
