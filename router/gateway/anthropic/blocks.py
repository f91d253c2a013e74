"""The content blocks of a request, and what they are to a chat. Knows nothing of answers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Discriminator, Field

from router.gateway.errors import Json, dumps
from router.gateway.parsing import Closed, unsupported
from router.gateway.schema_formats import Schema
from router.gateway.schema_messages import Assistant, FunctionCall, Instructions, MessageBody, ToolCallBody, ToolResult, User

BREAK = "\n\n"  # between blocks of text: each is a paragraph of its own
T = TypeVar("T")


class Mark(Closed):
    """Where a prompt may be cached. Every prompt is, block by block of tokens, so a mark changes nothing."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Block(Closed):
    cache_control: Mark | None = None


class TextBlock(Block):
    """Citations are those of an earlier answer; the model is not shown them."""

    type: Literal["text"]
    text: str
    citations: list[Json] | None = None


class ThinkingBlock(Closed):
    """Reasoning of an earlier answer, by whomever it is signed."""

    type: Literal["thinking"]
    thinking: str
    signature: str | None = None


class RedactedThinkingBlock(Closed):
    """Reasoning that another server encrypted: nothing of it can be shown to the model."""

    type: Literal["redacted_thinking"]
    data: str


class Direct(Closed):
    type: Literal["direct"]


class ToolUseBlock(Block):
    """A call that the model made earlier."""

    type: Literal["tool_use"]
    id: str
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,256}$")]
    input: Schema
    caller: Direct | None = None
    toolset_name: None = None


def _of_types(*kinds: str) -> Callable[[Any], Any]:
    """For a union's validation: a type that the API has and we do not is told as such."""

    def check(block: Any) -> Any:
        kind = block.get("type") if isinstance(block, dict) else None
        if isinstance(kind, str) and kind not in kinds:
            raise unsupported(f"blocks of type '{kind[:64]}' are not supported here: {', '.join(kinds)} are")
        return block

    return check


TextOnly = Annotated[TextBlock, BeforeValidator(_of_types("text"))]


class ToolResultBlock(Block):
    """What a tool answered to the call of that id."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[TextOnly] | None = None
    is_error: bool | None = None
    toolset_name: None = None

    @property
    def text(self) -> str:
        """With the one word of its own that the model needs to tell a failure."""
        text = joined(self.content)
        return f"Error: {text}" if self.is_error else text


UserBlock = Annotated[
    Annotated[TextBlock | ToolResultBlock, Discriminator("type")], BeforeValidator(_of_types("text", "tool_result"))
]
AssistantBlock = Annotated[
    Annotated[TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock, Discriminator("type")],
    BeforeValidator(_of_types("text", "thinking", "redacted_thinking", "tool_use")),
]


class SystemMessage(Closed):
    role: Literal["system"]
    content: str | list[TextOnly]

    def chat(self) -> Iterator[MessageBody]:
        yield instructions(self.content)


class UserMessage(Closed):
    role: Literal["user"]
    content: str | list[UserBlock]

    def chat(self) -> Iterator[MessageBody]:
        """Texts in a row are one message."""
        texts: list[TextBlock] = []
        for block in [] if isinstance(self.content, str) else self.content:
            if isinstance(block, TextBlock):
                texts.append(block)
                continue
            if texts:
                yield User(role="user", content=joined(texts))
                texts = []
            yield ToolResult(role="tool", content=block.text, tool_call_id=block.tool_use_id)
        if isinstance(self.content, str) or texts:
            yield User(role="user", content=joined(self.content if isinstance(self.content, str) else texts))


class AssistantMessage(Closed):
    role: Literal["assistant"]
    content: str | list[AssistantBlock]

    @property
    def calls(self) -> list[ToolUseBlock]:
        return _of(ToolUseBlock, self.content)

    def chat(self) -> Iterator[MessageBody]:
        calls = [
            ToolCallBody(id=call.id, function=FunctionCall(name=call.name, arguments=dumps(call.input))) for call in self.calls
        ]
        text = joined(self.content if isinstance(self.content, str) else _of(TextBlock, self.content))
        reasoning = BREAK.join(block.thinking for block in _of(ThinkingBlock, self.content) if block.thinking)
        yield Assistant(role="assistant", content=text, reasoning=reasoning or None, tool_calls=calls or None)


Message = Annotated[UserMessage | AssistantMessage | SystemMessage, Discriminator("role")]


def instructions(content: str | Sequence[TextBlock]) -> Instructions:
    """A system prompt."""
    return Instructions(role="system", content=joined(content))


def joined(content: str | Sequence[TextBlock] | None) -> str:
    """The text of a message, its blocks joined."""
    return content if isinstance(content, str) else BREAK.join(block.text for block in content or ())


def _of(kind: type[T], content: str | Sequence[object]) -> list[T]:
    return [block for block in content if isinstance(block, kind)]
