"""The tools of a request to the Responses API, and which of them is to be called. Knows neither harmony nor tool servers.

Source: https://platform.openai.com/docs/api-reference/responses/create#responses-create-tools.
"""

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Discriminator, Field, field_validator

from router.gateway.errors import Json
from router.gateway.parsing import Absent, Closed, Echoed, unsupported, wrong
from router.gateway.schema_formats import Name, Schema


def _types(union: Any) -> frozenset[str]:
    """What the alternatives say they are."""
    return frozenset(name for kind in get_args(union) for name in get_args(kind.model_fields["type"].annotation))


class Declared(Echoed):
    """What the model is told of from the beginning, and calls by itself."""

    allowed_callers: Annotated[list[Literal["direct"]] | None, Field(exclude=True)] = None
    defer_loading: Annotated[Literal[False] | None, Field(exclude=True)] = None


class ClientTool(Declared):
    """What the client calls, while the model waits. Marks of what to cache are harmless: every prefix is cached."""

    harmless: ClassVar[frozenset[str]] = frozenset(("cache_control", "prompt_cache_breakpoint"))

    asynchronous: Annotated[Literal[False] | None, Field(alias="async", exclude=True)] = None


class FunctionTool(ClientTool):
    """A function of the client's. A strict one's arguments satisfy its parameters; another's are an object of their names."""

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None
    output_schema: Absent = None

    def shown(self) -> Json:
        return {**self.model_dump(), "strict": bool(self.strict)}


class TextFormat(Closed):
    type: Literal["text"]


class GrammarFormat(Closed):
    """What a custom tool's input must match, as a whole."""

    type: Literal["grammar"]
    syntax: str
    definition: str

    @field_validator("syntax")
    @classmethod
    def _is_regex(cls, syntax: str) -> str:
        if syntax != "regex":
            raise unsupported(f"the syntax '{syntax[:64]}' is not supported: use 'regex'")
        return syntax


class CustomTool(ClientTool):
    """A tool of the client's that takes text."""

    type: Literal["custom"]
    name: Name
    description: str | None = None
    format: Annotated[TextFormat | GrammarFormat, Discriminator("type")] | None = None

    @property
    def pattern(self) -> str | None:
        """What the input must match."""
        return self.format.definition if isinstance(self.format, GrammarFormat) else None

    def shown(self) -> Json:
        return {**self.model_dump(), "format": self.format.model_dump() if self.format else {"type": "text"}}


class Filter(Echoed):
    """Some of a server's tools."""

    tool_names: list[str] | None = None
    read_only: Absent = None


class Approvals(Closed):
    """Which tools of a server need the client's word before each call."""

    always: Filter | None = None
    never: Filter | None = None

    def needed(self, name: str) -> bool:
        if self.never is not None and name in (self.never.tool_names or ()):
            return False
        return self.always is None or name in (self.always.tool_names or ())


class McpTool(Declared):
    """A server of the operator's list, named by its label or its address."""

    type: Literal["mcp"]
    server_label: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    server_url: str | None = None
    server_description: str | None = None
    allowed_tools: list[str] | Filter | None = None
    require_approval: Literal["always", "never"] | Approvals | None = None
    headers: Absent = None
    authorization: Absent = None
    connector_id: Absent = None
    tunnel_id: Absent = None

    def allows(self, name: str) -> bool:
        names = self.allowed_tools.tool_names if isinstance(self.allowed_tools, Filter) else self.allowed_tools
        return names is None or name in names

    def needs_approval(self, name: str) -> bool:
        """OpenAI's default is to ask."""
        if isinstance(self.require_approval, Approvals):
            return self.require_approval.needed(name)
        return self.require_approval != "never"

    def shown(self) -> Json:
        return {"allowed_tools": None, "require_approval": "always", **self.model_dump(exclude_none=True)}


class Domains(Echoed):
    """Where the browser may look: there is no way to tell it."""

    allowed_domains: Absent = None


class Location(Echoed):
    """Where the user is: the browser finds the same for all."""

    type: Literal["approximate"] | None = None
    city: Absent = None
    country: Absent = None
    region: Absent = None
    timezone: Absent = None


class SearchTool(Echoed):
    """The browser that the model was trained with. It always fetches what it shows."""

    type: Literal["web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"]
    external_web_access: Literal[True] | None = None
    filters: Domains | None = None
    user_location: Location | None = None
    search_context_size: Literal["medium"] | None = None
    search_content_types: list[Literal["text"]] | None = None

    def shown(self) -> Json:
        return {"type": self.type, "search_context_size": "medium", "user_location": None}


class AutoContainer(Closed):
    """A place to run code of the response's own, or that which earlier responses of the conversation had."""

    type: Literal["auto"]
    file_ids: Annotated[list[str], Field(max_length=0)] | None = None
    memory_limit: Absent = None
    network_policy: Absent = None


class CodeTool(Echoed):
    """The Python that the model was trained with; calls in one container share its variables."""

    type: Literal["code_interpreter"]
    allowed_callers: list[Literal["direct"]] | None = None
    container: Annotated[str, Field(pattern=r"^cntr_[0-9A-Za-z]{1,64}$")] | AutoContainer

    def shown(self) -> Json:
        return {"type": self.type, "container": self.container if isinstance(self.container, str) else {"type": "auto"}}


_TOOLS = FunctionTool | CustomTool | McpTool | SearchTool | CodeTool
_TYPES = _types(_TOOLS)


def _known(value: object) -> object:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind not in _TYPES:
        raise unsupported(f"tools of type '{kind[:64]}' are not supported")
    return value


Tool = Annotated[Annotated[_TOOLS, Discriminator("type")], BeforeValidator(_known)]


class NamedChoice(Echoed):
    """One function or custom tool."""

    type: Literal["function", "custom"]
    name: str


class McpChoice(Echoed):
    """A server's tools, or one of them."""

    type: Literal["mcp"]
    server_label: str
    name: str | None = None


class BuiltInChoice(Echoed):
    """The browser or Python."""

    type: Literal["web_search", "web_search_preview", "web_search_preview_2025_03_11", "code_interpreter"]


_CHOSEN = NamedChoice | McpChoice | BuiltInChoice
Chosen = Annotated[_CHOSEN, Discriminator("type")]


class AllowedTools(Echoed):
    """Some of the tools; the prompt still shows all of them."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[Chosen], Field(min_length=1)]


_CHOICES = _CHOSEN | AllowedTools
_CHOICE_TYPES = _types(_CHOICES)


def _known_choice(value: object) -> object:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(value, str) and value not in ("none", "auto", "required"):
        raise wrong("none, auto, required or a tool is expected")
    if isinstance(kind, str) and kind not in _CHOICE_TYPES:
        raise unsupported(f"tools of type '{kind[:64]}' are not supported")
    return value


ToolChoice = Annotated[str | Annotated[_CHOICES, Discriminator("type")], BeforeValidator(_known_choice)]
