"""What the gateway knows of a tool server: its tools, and that a call yields a result whatever happens. Knows no protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

BUILT_IN = ("browser", "python")
"""Labels of the tools that gpt-oss was trained with: harmony has declarations of its own for them, and namespaces."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model is told of it. `name`: 1 to 64 letters, digits, `_` and `-`; `parameters`: a JSON schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the model reads. `error`: the call failed, and `text` says how."""

    text: str
    error: bool = False


class Server(Protocol):
    """One entry of the operator's list."""

    @property
    def label(self) -> str:
        """Its name in the list; one of BUILT_IN has harmony's own declaration."""

    @property
    def url(self) -> str | None:
        """Where it is, as the operator wrote it; None for one that runs beside the gateway."""

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """What it offers, as far as is known: empty until it was reached for the first time."""

    @property
    def failure(self) -> str | None:
        """Why it cannot be called at this moment; None where it can."""

    async def call(
        self, name: str, arguments: Mapping[str, Any], timeout_s: float | None = None, session: str = "", tenant: str = ""
    ) -> ToolResult:
        """Calls a tool; what goes wrong there is a result with `error`, never an exception.

        `timeout_s` may only shorten the operator's own. Calls of one `session` share what the tool keeps between calls (the
        variables of `python`); without, each is by itself. Calls of one `tenant` leave room for those of others.
        """


SESSION, TENANT, TIMEOUT_S = "ossia/session", "ossia/tenant", "ossia/timeout_s"
"""Keys of a call's `_meta` (MCP), which `python` reads: whose variables the code sees, who asks, the seconds it may take."""
