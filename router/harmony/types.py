"""A conversation as a caller states it. Knows neither tokens nor HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "developer", "user", "assistant", "tool"]
Effort = Literal["low", "medium", "high"]


class HarmonyError(ValueError):
    """A conversation that cannot be rendered; `field` names the place at fault (`messages[2].tool_call_id`)."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant made; `arguments` is the text it wrote, JSON or not.

    A name with a dot (`browser.search`) is an address as it stands. A `builtin` one is that of a tool which the model was
    trained to call while it reasons (`python`): the call, and its result, are part of the chain of thought.
    """

    id: str
    name: str
    arguments: str
    builtin: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the assistant may call; `parameters` is its JSON schema, None where it takes none."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Namespace:
    """Tools of the server's own under one name; without tools it takes free text, as `python` does.

    Equal only to itself: make each once, for what is rendered of a `builtin` one is kept. Those are shown to the model where
    it was trained to find them, in the system message, others beside the functions.
    """

    name: str
    description: str | None = None
    tools: tuple[Tool, ...] = ()
    builtin: bool = False


@dataclass(frozen=True, slots=True)
class Format:
    """A form that the answer must have; `schema` is a JSON schema."""

    name: str
    description: str | None
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `tool_calls` and `reasoning` are the assistant's; tool results have `tool_call_id`, or `name`.

    The `name` of a user or an assistant tells them from others of the same role.
    """

    role: Role
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str | None = None
