"""The body of POST /v1/chat/completions."""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from ossia.common.vocabulary import SIZE
from ossia.v1 import engine_pb2
from router.gateway.arguments import held
from router.gateway.errors import dumps, invalid
from router.gateway.parsing import Strict, wrong
from router.gateway.schema import GenerationBody
from router.gateway.schema_formats import JsonSchemaFormat, Name, Schema
from router.gateway.schema_messages import MessageBody, only_functions
from router.harmony.types import Effort, Format, Tool

MAX_TOOLS = 256
EFFORTS: dict[str, Effort] = {"none": "low", "minimal": "low", "low": "low", "medium": "medium", "high": "high"}


def _known_effort(effort: str) -> str:
    if effort not in EFFORTS:
        raise wrong(f"one of {', '.join(EFFORTS)} is expected")
    return effort


AskedEffort = Annotated[str, AfterValidator(_known_effort)]


def _known_choice(choice: str) -> str:
    if choice not in ("none", "auto", "required"):
        raise wrong("none, auto, required or a function is expected")
    return choice


class Function(Strict):
    """A tool's declaration. Arguments of a strict one satisfy its parameters, those of another are an object of their names."""

    name: Name
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class ToolBody(Strict):
    type: Annotated[str, AfterValidator(only_functions)]
    function: Function


class FunctionName(Strict):
    name: str


class NamedTool(Strict):
    """The function to be called."""

    type: Annotated[str, AfterValidator(only_functions)]
    function: FunctionName


class ChatBody(GenerationBody):
    """A conversation and how to continue it."""

    only: ClassVar = {
        "modalities": (["text"],),
        "verbosity": ("medium",),
        "audio": (),
        "prediction": (),
        "web_search_options": (),
        "functions": ([],),
        "function_call": ("none",),
    }
    harmless: ClassVar[frozenset[str]] = GenerationBody.harmless | {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
    }
    prompt_param: ClassVar[str] = "messages"

    messages: Annotated[list[MessageBody], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=1 << 32)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    reasoning_effort: AskedEffort | None = None
    thinking_token_budget: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    tools: Annotated[list[ToolBody], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Annotated[str, AfterValidator(_known_choice)] | NamedTool | None = None

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
        return default if self.reasoning_effort is None else EFFORTS[self.reasoning_effort]

    def check(self) -> None:
        super().check()
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid("'top_logprobs' is allowed only with 'logprobs': true", "top_logprobs")
        names: set[str] = set()
        for place, tool in enumerate(self.tools or ()):
            if tool.function.name in names:
                raise invalid(f"'{tool.function.name}' is declared for the second time", f"tools[{place}].function.name")
            names.add(tool.function.name)
        if self.tool_choice == "required" and not names:
            raise invalid("'tool_choice' requires a call, and there are no 'tools'", "tool_choice")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise invalid("'tool_choice' names none of the 'tools'", "tool_choice.function.name")

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
            grammar.functions.add(recipient=f"functions.{function.name}", parameters=parameters)
        if self._must_call:
            grammar.tool_choice = engine_pb2.TOOL_CHOICE_REQUIRED
        if self.thinking_token_budget is not None:
            grammar.reasoning_tokens = self.thinking_token_budget
        return grammar

    @property
    def _must_call(self) -> bool:
        return self.tool_choice == "required" or isinstance(self.tool_choice, NamedTool)

    @property
    def _callable(self) -> list[int]:
        """Places of the tools that may be called."""
        named = self.tool_choice.function.name if isinstance(self.tool_choice, NamedTool) else None
        return [place for place, tool in enumerate(self.offered) if named in (None, tool.function.name)]

    def _needing_grammar(self) -> Iterator[str]:
        if param := super().needs_grammar:
            yield param
        yield from (f"tools[{place}].function.strict" for place in self._callable if self.offered[place].function.strict)
        if self._must_call:
            yield "tool_choice"
        if self.thinking_token_budget is not None:
            yield "thinking_token_budget"
