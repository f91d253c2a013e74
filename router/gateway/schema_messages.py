"""The messages of a chat, as clients send them."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, model_validator

from router.gateway.parsing import Echoed, unsupported, wrong

MAX_MESSAGES = 8192
Person = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


def _only_text(kind: str) -> str:
    if kind not in ("text", "refusal"):
        raise unsupported(f"parts of type '{kind[:64]}' are not supported: the model reads and writes text only")
    return kind


def only_functions(kind: str) -> str:
    """For validators of a tool's type."""
    if kind != "function":
        raise unsupported(f"tools of type '{kind[:64]}' are not supported: use 'function'")
    return kind


class Part(Echoed):
    """A piece of a message's text. Marks of what to cache are harmless: every prefix is cached."""

    harmless: ClassVar[frozenset[str]] = frozenset(("annotations", "cache_control", "prompt_cache_breakpoint"))

    type: Annotated[str, AfterValidator(_only_text)]
    text: str | None = None
    refusal: str | None = None

    @model_validator(mode="after")
    def _has_text(self) -> Self:
        if self.text is None and self.refusal is None:
            raise wrong(f"a part of type '{self.type}' needs a string under '{self.type}'")
        return self


Content = str | list[Part]


def text(content: Content | None) -> str:
    """A message's text, its parts joined."""
    if isinstance(content, list):
        return "".join(part.text or part.refusal or "" for part in content)
    return content or ""


class FunctionCall(Echoed):
    harmless: ClassVar[frozenset[str]] = frozenset(("parsed_arguments",))

    name: str
    arguments: str


class ToolCallBody(Echoed):
    """A call that the model made earlier."""

    harmless: ClassVar[frozenset[str]] = frozenset(("index",))

    id: str
    type: Annotated[str, AfterValidator(only_functions)] = "function"
    function: FunctionCall


class Instructions(Echoed):
    """A system or developer message."""

    role: Literal["system", "developer"]
    content: Content


class User(Echoed):
    role: Literal["user"]
    content: Content
    name: Person | None = None


class Assistant(Echoed):
    """An answer, as this gateway or another server gave it; of two spellings of the reasoning either is read."""

    harmless: ClassVar[frozenset[str]] = frozenset(("annotations", "id", "parsed"))

    role: Literal["assistant"]
    content: Content | None = None
    refusal: str | None = None
    name: Person | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallBody] | None = None


class ToolResult(Echoed):
    """What a tool answered to the call of that id, which says its name."""

    harmless: ClassVar[frozenset[str]] = frozenset(("name",))

    role: Literal["tool"]
    content: Content
    tool_call_id: str


MessageBody = Annotated[Instructions | User | Assistant | ToolResult, Discriminator("role")]
