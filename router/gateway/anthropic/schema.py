"""The bodies of /v1/messages: what Anthropic's clients ask, told as the chat that it is."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field

from router.gateway.anthropic.blocks import (
    AssistantMessage,
    Mark,
    Message,
    TextOnly,
    ToolResultBlock,
    UserMessage,
    instructions,
)
from router.gateway.errors import Json, dumps, invalid
from router.gateway.parsing import Body, Closed, unsupported
from router.gateway.schema import StopString
from router.gateway.schema_chat import ChatBody
from router.gateway.schema_formats import JsonSchema, JsonSchemaFormat, Name, Schema
from router.gateway.schema_messages import MAX_MESSAGES
from router.gateway.schema_tools import MAX_TOOLS, Function, FunctionName, NamedTool, ToolBody

MAX_STOP_SEQUENCES = 64
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}


def _only_custom(kind: str | None) -> str | None:
    if kind not in (None, "custom"):
        raise unsupported(f"tools of type '{kind[:64]}' are not supported: declare them with an 'input_schema'")
    return kind


class Tool(Closed):
    """A function. Its input is streamed as it comes, with `eager_input_streaming` or without."""

    type: Annotated[str | None, AfterValidator(_only_custom)] = None
    name: Name
    description: str | None = None
    input_schema: Schema
    input_examples: list[Schema] | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = None
    defer_loading: Literal[False] | None = None
    allowed_callers: list[Literal["direct"]] | None = None
    cache_control: Mark | None = None

    def chat(self) -> ToolBody:
        examples = [f"Example: {dumps(example)}" for example in self.input_examples or ()]
        description = "\n".join([self.description or "", *examples]).strip() or None
        function = Function(name=self.name, description=description, parameters=self.input_schema, strict=self.strict)
        return ToolBody(type="function", function=function)


class NoTool(Closed):
    type: Literal["none"]
    disable_parallel_tool_use: ClassVar[None] = None

    def chat(self) -> str:
        return "none"


class AutoTool(Closed):
    type: Literal["auto"]
    disable_parallel_tool_use: bool | None = None

    def chat(self) -> str:
        return "auto"


class AnyTool(Closed):
    type: Literal["any"]
    disable_parallel_tool_use: bool | None = None

    def chat(self) -> str:
        return "required"


class OneTool(Closed):
    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool | None = None

    def chat(self) -> NamedTool:
        return NamedTool(type="function", function=FunctionName(name=self.name))


class ThinkingEnabled(Closed):
    """Reasoning is shown, or with `omitted` told of as a block without text."""

    type: Literal["enabled"]
    budget_tokens: Annotated[int, Field(ge=1, lt=1 << 32)]
    display: Literal["summarized", "omitted"] | None = None


class ThinkingAdaptive(Closed):
    type: Literal["adaptive"]
    budget_tokens: ClassVar[None] = None
    display: Literal["summarized", "omitted"] | None = None


class ThinkingDisabled(Closed):
    """The model answers at once."""

    type: Literal["disabled"]
    budget_tokens: ClassVar[int] = 0


class OutputFormat(Closed):
    """JSON that satisfies the schema."""

    type: Literal["json_schema"]
    schema_: Annotated[Schema, Field(alias="schema")]


class OutputConfig(Closed):
    """The model knows three efforts; `xhigh` and `max` are the highest of them."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Metadata(Closed):
    user_id: str | None = None


class ClearThinking(Closed):
    """Prompts hold the reasoning of the running tool loop and no other, whatever is to be kept."""

    type: Literal["clear_thinking_20251015"]
    keep: Json | str | None = None


class ContextManagement(Closed):
    edits: list[ClearThinking] | None = None


Thinking = Annotated[ThinkingEnabled | ThinkingAdaptive | ThinkingDisabled, Discriminator("type")]
Choice = Annotated[AutoTool | AnyTool | OneTool | NoTool, Discriminator("type")]


class CountBody(Body):
    """A prompt, to be counted."""

    only: ClassVar = {"speed": ("standard",), "mcp_servers": ([],)}

    model: str
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    system: str | list[TextOnly] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    context_management: ContextManagement | None = None
    cache_control: Mark | None = None

    def check(self) -> None:
        """What no type says. Raises ApiError."""
        known: set[str] = set()
        for place, message in enumerate(self.messages):
            if isinstance(message, AssistantMessage):
                known.update(call.id for call in message.calls)
            elif isinstance(message, UserMessage) and not isinstance(message.content, str):
                for position, block in enumerate(message.content):
                    if isinstance(block, ToolResultBlock) and block.tool_use_id not in known:
                        param = f"messages[{place}].content[{position}].tool_use_id"
                        raise invalid(f"'{param}': no earlier message has a tool_use of that id", param)
        if isinstance(self.messages[-1], AssistantMessage):
            told = "the last message is the assistant's: this model cannot go on with a text that was begun for it"
            raise invalid(told, "messages", "unsupported_value")

    def chat(self) -> ChatBody:
        """The same for a chat. Raises ApiError."""
        self.check()
        system = [] if self.system is None else [instructions(self.system)]
        messages = [*system, *(part for message in self.messages for part in message.chat())]
        chat = ChatBody.model_construct(
            model=self.model,
            messages=messages,
            reasoning_effort=_EFFORTS[effort] if (effort := self.output_config and self.output_config.effort) else None,
            response_format=self._format,
            thinking_token_budget=self.thinking and self.thinking.budget_tokens,
            tools=self.tools and [tool.chat() for tool in self.tools],
            tool_choice=self.tool_choice and self.tool_choice.chat(),
            parallel_tool_calls=not (self.tool_choice and self.tool_choice.disable_parallel_tool_use),
            **self._more,
        )
        chat.check()
        return chat

    @property
    def _format(self) -> JsonSchemaFormat | None:
        if not self.output_config or not self.output_config.format:
            return None
        asked = {"name": "output", "schema": self.output_config.format.schema_}
        return JsonSchemaFormat(type="json_schema", json_schema=JsonSchema.model_validate(asked))

    @property
    def _more(self) -> dict[str, Any]:
        """What a chat is asked beside its prompt."""
        return {}


class MessagesBody(CountBody):
    """A prompt and how to continue it."""

    only: ClassVar = {
        **CountBody.only,
        "service_tier": ("auto", "standard_only"),
        "container": (),
        "diagnostics": (),
        "inference_geo": (),
    }

    max_tokens: Annotated[int, Field(ge=1, lt=1 << 32)]
    stream: bool | None = None
    stop_sequences: Annotated[list[StopString], Field(max_length=MAX_STOP_SEQUENCES)] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    metadata: Metadata | None = None

    @property
    def _more(self) -> dict[str, Any]:
        return {
            "max_tokens": self.max_tokens,
            "stop": self.stop_sequences,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
        }
