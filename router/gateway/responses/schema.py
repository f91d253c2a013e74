"""The body of POST /v1/responses.

Source: https://platform.openai.com/docs/api-reference/responses/create.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field

from ossia.v1 import engine_pb2
from router.gateway.errors import dumps, invalid
from router.gateway.parsing import Body, Closed, unsupported, wrong
from router.gateway.responses.items import InputItem, Item, MessageItem
from router.gateway.responses.tools import Tool, ToolChoice
from router.gateway.schema import GenerationBody
from router.gateway.schema_chat import EFFORTS, TIERS, AskedEffort, AskedTier, Metadata
from router.gateway.schema_formats import Held, JsonObject, Name, Schema, Text
from router.gateway.schema_messages import MAX_MESSAGES
from router.gateway.schema_tools import MAX_TOOLS
from router.harmony.types import Effort, Format

LOGPROBS = "message.output_text.logprobs"
SEALED = "reasoning.encrypted_content"
_INCLUDABLE = frozenset(
    (
        LOGPROBS,
        SEALED,
        "code_interpreter_call.outputs",
        "web_search_call.results",
        # what these ask for is never there: they change nothing
        "web_search_call.action.sources",
        "file_search_call.results",
        "message.input_image.image_url",
        "computer_call_output.output.image_url",
    )
)


def _includable(name: str) -> str:
    if name not in _INCLUDABLE:
        raise wrong(f"one of {', '.join(sorted(_INCLUDABLE))} is expected")
    return name


def _no_summary(summary: str) -> str:
    if summary != "auto":
        raise unsupported("only 'auto' is supported: reasoning comes whole, and no summary is made of it")
    return summary


Include = list[Annotated[str, AfterValidator(_includable)]]


class Reasoning(Closed):
    """How much is thought; `context` and `mode` are accepted where they ask for what is done anyway."""

    effort: AskedEffort | None = None
    summary: Annotated[str, AfterValidator(_no_summary)] | None = None
    generate_summary: Annotated[str, AfterValidator(_no_summary)] | None = None
    context: Literal["auto", "current_turn"] | None = None
    mode: Literal["standard"] | None = None


class JsonSchemaFormat(Closed):
    """What satisfies a schema, with `strict` or without."""

    type: Literal["json_schema"]
    name: Name
    description: str | None = None
    schema_: Annotated[Schema, Field(alias="schema")]
    strict: bool | None = None

    @property
    def held(self) -> Held:
        return Held(engine_pb2.Grammar(json_schema=dumps(self.schema_)), "text.format.schema")


class TextConfig(Closed):
    """What the answer must be."""

    format: Annotated[Text | JsonObject | JsonSchemaFormat, Discriminator("type")] | None = None
    verbosity: Literal["medium"] | None = None


class ConversationId(Closed):
    id: str


def _conversation(value: object) -> object:
    return {"id": value} if isinstance(value, str) else value


class Context(Body):
    """What a prompt is made of."""

    input: str | Annotated[list[InputItem], Field(max_length=MAX_MESSAGES)] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: Annotated[
        ConversationId | None, BeforeValidator(_conversation, json_schema_input_type=str | ConversationId)
    ] = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    text: TextConfig | None = None
    truncation: Literal["auto", "disabled"] | None = None

    @property
    def items(self) -> list[Item]:
        if isinstance(self.input, str):
            return [MessageItem(type="message", role="user", content=self.input)]
        return list(self.input or ())

    @property
    def formats(self) -> list[Format]:
        """What the prompt says about the answer's form."""
        form = self.text.format if self.text else None
        return [Format(form.name, form.description, form.schema_)] if isinstance(form, JsonSchemaFormat) else []

    def effort(self, default: Effort) -> Effort:
        asked = self.reasoning.effort if self.reasoning else None
        return default if asked is None else EFFORTS[asked]

    def check_context(self) -> None:
        """Raises ApiError for what spans two parameters."""
        if self.previous_response_id is not None and self.conversation is not None:
            raise invalid("'previous_response_id' and 'conversation' exclude each other", "conversation")
        if not self.items and self.previous_response_id is None and self.conversation is None:
            raise invalid("'input' is required: text, or at least one item", "input", "missing_required_parameter")
        names: set[str] = set()
        for place, tool in enumerate(self.tools or ()):
            name = str(getattr(tool, "name", None) or getattr(tool, "server_label", tool.type))
            if name in names:
                raise invalid(f"'{name}' is declared for the second time", f"tools[{place}]")
            names.add(name)


class InputTokensBody(Context):
    """The body of POST /v1/responses/input_tokens: what a response would be made of."""

    only: ClassVar = {"personality": ()}

    model: str | None = None


class ResponseBody(Context, GenerationBody):
    """What a response is made of, and how."""

    only: ClassVar = {
        "n": (1,),
        "max_tokens": (),
        "response_format": ({"type": "text"},),
        "prompt": (),
        "moderation": (),
        "access_programs": (),
        "image": (),
        "context_management": ([],),
        "background_options": ({}, {"completion_window": "soonest"}),
        "prompt_cache_options": ({}, {"mode": "implicit"}),
    }
    prompt_param: ClassVar[str] = "input"

    background: bool | None = None
    include: Include | None = None
    max_output_tokens: Annotated[int, Field(ge=1, lt=1 << 32)] | None = None
    max_tool_calls: Annotated[int, Field(ge=1, lt=1 << 32)] | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    # These change nothing and are told back.
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    service_tier: AskedTier | None = None

    @property
    def stored(self) -> bool:
        return self.store is not False

    @property
    def urgency(self) -> int:
        return super().urgency + TIERS[self.service_tier or "auto"][0]

    @property
    def tier(self) -> str:
        """The service tier as the answer has it."""
        return TIERS[self.service_tier or "auto"][1]

    @cached_property
    def held(self) -> Held | None:
        """What the answer is held to."""
        if self.structured_outputs:
            return self.structured_outputs.held
        form = self.text.format if self.text else None
        if isinstance(form, JsonObject):
            return Held(form.held.grammar, "text.format")
        return form.held if form else None

    @property
    def logprobs(self) -> int | None:
        """How many alternatives are told of each token of the answer; None: nothing is."""
        wanted = self.top_logprobs is not None or LOGPROBS in (self.include or ())
        return self.top_logprobs or 0 if wanted else None

    def check(self) -> None:
        super().check()
        self.check_context()
        if self.include_usage:
            raise invalid("'include_usage' is for chats: here the last event has the usage", "stream_options.include_usage")
        if self.priority is not None and TIERS[self.service_tier or "auto"][0]:
            raise invalid("'priority' and 'service_tier' cannot both say what comes first", "priority")
        if self.background and not self.stored:
            raise invalid("'background' needs 'store': true", "background")
        if self.structured_outputs and self.text and self.text.format and self.text.format.held:
            raise invalid("'structured_outputs' and 'text.format' cannot both hold the answer", "structured_outputs")
        if not self.stored and self.conversation is not None:
            raise invalid("'conversation' needs 'store': true", "conversation")

    def sampling(self) -> engine_pb2.Sampling:
        sampling = super().sampling()
        if self.max_output_tokens is not None:
            sampling.max_tokens = self.max_output_tokens
        if self.logprobs is not None:
            sampling.logprobs = self.logprobs
        return sampling

    def _own_names(self) -> Mapping[str, str]:
        return {
            "sampling.max_tokens": "max_output_tokens",
            "sampling.logprobs": "top_logprobs",
            "grammar.functions": "tools",
            "grammar.tool_choice": "tool_choice",
        }
