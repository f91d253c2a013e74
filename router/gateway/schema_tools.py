"""The tools of a chat: what the model may call, and whether it must."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from router.gateway.errors import invalid
from router.gateway.parsing import Closed, Echoed, wrong
from router.gateway.schema_formats import Name, Schema
from router.gateway.schema_messages import only_functions

MAX_TOOLS = 256


def _known_choice(choice: str) -> str:
    if choice not in ("none", "auto", "required"):
        raise wrong("none, auto, required, a function or allowed_tools is expected")
    return choice


class Function(Echoed):
    """A tool's declaration. Arguments of a strict one satisfy its parameters, those of another are an object of their names."""

    name: Name
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class ToolBody(Echoed):
    """Marks of what to cache are harmless: every prefix is cached."""

    harmless: ClassVar[frozenset[str]] = frozenset(("cache_control", "prompt_cache_breakpoint"))

    type: Annotated[str, AfterValidator(only_functions)]
    function: Function


class FunctionName(Closed):
    name: str


class NamedTool(Closed):
    """The function to be called."""

    type: Annotated[str, AfterValidator(only_functions)]
    function: FunctionName


class AllowedTools(Closed):
    """Those of the tools that may be called; with `required`, one of them is."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS)]


class AllowedChoice(Closed):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoice = Annotated[str, AfterValidator(_known_choice)] | NamedTool | AllowedChoice


def named(choice: ToolChoice | None) -> dict[str, str] | None:
    """The functions that the choice names, each with its place in the request; None where it names none."""
    if isinstance(choice, NamedTool):
        return {choice.function.name: "tool_choice.function.name"}
    if isinstance(choice, AllowedChoice):
        tools = enumerate(choice.allowed_tools.tools)
        return {tool.function.name: f"tool_choice.allowed_tools.tools[{place}].function.name" for place, tool in tools}
    return None


def must_call(choice: ToolChoice | None) -> bool:
    """Whether the model's turn is a call."""
    return (
        choice == "required"
        or isinstance(choice, NamedTool)
        or (isinstance(choice, AllowedChoice) and choice.allowed_tools.mode == "required")
    )


def check_tools(tools: Sequence[ToolBody], choice: ToolChoice | None) -> None:
    """Whether the choice can be met. Raises ApiError."""
    names: set[str] = set()
    for place, tool in enumerate(tools):
        if tool.function.name in names:
            raise invalid(f"'{tool.function.name}' is declared for the second time", f"tools[{place}].function.name")
        names.add(tool.function.name)
    if choice == "required" and not names:
        raise invalid("'tool_choice' requires a call, and there are no 'tools'", "tool_choice")
    for name, param in (named(choice) or {}).items():
        if name not in names:
            raise invalid("'tool_choice' names none of the 'tools'", param)
