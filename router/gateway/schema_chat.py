"""The body of POST /v1/chat/completions."""

from collections.abc import Iterator, Mapping, Set
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from ossia.common.vocabulary import SIZE
from ossia.v1 import engine_pb2
from router.gateway.arguments import held, unheld
from router.gateway.errors import dumps, invalid
from router.gateway.parsing import Closed, wrong
from router.gateway.schema import GenerationBody
from router.gateway.schema_formats import JsonSchemaFormat
from router.gateway.schema_messages import MAX_MESSAGES, MessageBody
from router.gateway.schema_tools import MAX_TOOLS, AllowedChoice, ToolBody, ToolChoice, check_tools, must_call, named
from router.harmony.types import Effort, Format, Tool

Metadata = Annotated[dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)]
EFFORTS: dict[str, Effort] = {"none": "low", "minimal": "low", "low": "low", "medium": "medium", "high": "high"}


def _known_effort(effort: str) -> str:
    if effort not in EFFORTS:
        raise wrong(f"one of {', '.join(EFFORTS)} is expected")
    return effort


AskedEffort = Annotated[str, AfterValidator(_known_effort)]


TIERS: dict[str, tuple[int, str]] = {
    "auto": (0, "default"),
    "default": (0, "default"),
    "flex": (-100, "flex"),
    "priority": (100, "priority"),
    "fast": (100, "priority"),
}
"""What a service tier adds to the protocol's priority, and what the answer calls it."""


def _known_tier(tier: str) -> str:
    if tier not in TIERS:
        raise wrong(f"one of {', '.join(TIERS)} is expected")
    return tier


AskedTier = Annotated[str, AfterValidator(_known_tier)]


class TemplateKwargs(Closed):
    """What vLLM's users say to gpt-oss's chat template."""

    model_identity: Annotated[str, Field(max_length=4096)] | None = None
    reasoning_effort: AskedEffort | None = None


class ChatBody(GenerationBody):
    """A conversation and how to continue it."""

    only: ClassVar = {
        "modalities": (["text"],),
        "verbosity": ("medium",),
        "prompt_cache_retention": ("in_memory", "in-memory", "24h"),
        "prompt_cache_options": ({"mode": "implicit"},),
        "audio": (),
        "moderation": (),
        "prediction": (),
        "web_search_options": (),
        "functions": ([],),
        "function_call": ("none",),
    }
    prompt_param: ClassVar[str] = "messages"

    messages: Annotated[list[MessageBody], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=1 << 32)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    reasoning_effort: AskedEffort | None = None
    thinking_token_budget: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    tools: Annotated[list[ToolBody], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: TemplateKwargs | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    service_tier: AskedTier | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None

    def _own_names(self) -> Mapping[str, str]:
        tokens = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        called = {
            f"grammar.functions[{index}].{theirs}": f"tools[{place}].function.{ours}"
            for index, place in enumerate(self._callable)
            for theirs, ours in (("parameters", "parameters"), ("recipient", "name"))
        }
        return {
            "sampling.max_tokens": tokens,
            "sampling.logprobs": "top_logprobs",
            "grammar.functions": "tools",
            "grammar.tool_choice": "tool_choice",
            "grammar.reasoning_tokens": "thinking_token_budget",
            **called,
        }

    @property
    def offered(self) -> list[ToolBody]:
        """The tools that the model is told of."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def tool_names(self) -> Set[str]:
        """Theirs."""
        return {tool.function.name for tool in self.offered}

    @property
    def described(self) -> list[Tool]:
        """The same, for the prompt."""
        return [Tool(tool.function.name, tool.function.description, tool.function.parameters) for tool in self.offered]

    @property
    def formats(self) -> list[Format]:
        """What the prompt says about the answer's form."""
        if not isinstance(self.response_format, JsonSchemaFormat):
            return []
        asked = self.response_format.json_schema
        return [Format(asked.name, asked.description, asked.schema_)]

    @property
    def needs_grammar(self) -> str | None:
        return next(self._needing_grammar(), None)

    def effort(self, default: Effort) -> Effort:
        """The model knows three efforts; the API's two lesser ones become the least of them."""
        asked = self.reasoning_effort or self._template.reasoning_effort
        return default if asked is None else EFFORTS[asked]

    @property
    def identity(self) -> str | None:
        """Who the model is told that it is."""
        return self._template.model_identity

    @property
    def urgency(self) -> int:
        return super().urgency + TIERS[self.service_tier or "auto"][0]

    @property
    def tier(self) -> str | None:
        """The service tier as the answer has it, which is where the request has one."""
        return self.service_tier and TIERS[self.service_tier][1]

    @property
    def _template(self) -> TemplateKwargs:
        return self.chat_template_kwargs or TemplateKwargs()

    def check(self) -> None:
        super().check()
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid("'top_logprobs' is allowed only with 'logprobs': true", "top_logprobs")
        if self.priority is not None and TIERS[self.service_tier or "auto"][0]:
            raise invalid("'priority' and 'service_tier' cannot both say what comes first", "priority")
        if self.reasoning_effort and self._template.reasoning_effort:
            raise invalid("'reasoning_effort' is given twice", "chat_template_kwargs.reasoning_effort")
        check_tools(self.tools or (), self.tool_choice)

    def sampling(self) -> engine_pb2.Sampling:
        sampling = super().sampling()
        if self.max_completion_tokens is not None:
            sampling.max_tokens = self.max_completion_tokens
        if self.logprobs:
            sampling.logprobs = self.top_logprobs or 0
        return sampling

    def grammar(self, card: engine_pb2.DescribeResponse) -> engine_pb2.Grammar | None:
        """The whole turn's. A model of another vocabulary writes no harmony, nor does a turn that goes on behind its end."""
        if card.vocab_size != SIZE or self.ignore_eos:
            return None
        grammar = super().grammar(card) or engine_pb2.Grammar()
        grammar.harmony = True
        for place in self._callable:
            function = self.offered[place].function
            parameters = dumps(held(function.parameters, bool(function.strict)))
            more = unheld(function.parameters, bool(function.strict)) if card.reads_declarations else None
            declared = dumps(more) if more else None
            grammar.functions.add(recipient=f"functions.{function.name}", parameters=parameters, declared=declared)
        if must_call(self.tool_choice):
            grammar.tool_choice = engine_pb2.TOOL_CHOICE_REQUIRED
        if self.thinking_token_budget is not None:
            grammar.reasoning_tokens = self.thinking_token_budget
        return grammar

    @property
    def _callable(self) -> list[int]:
        """Places of the tools that may be called."""
        names = named(self.tool_choice)
        return [place for place, tool in enumerate(self.offered) if names is None or tool.function.name in names]

    def _needing_grammar(self) -> Iterator[str]:
        if param := super().needs_grammar:
            yield param
        yield from (f"tools[{place}].function.strict" for place in self._callable if self.offered[place].function.strict)
        if must_call(self.tool_choice) or isinstance(self.tool_choice, AllowedChoice):
            yield "tool_choice"
        if self.thinking_token_budget is not None:
            yield "thinking_token_budget"
