"""The body of POST /v1/chat/completions."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, model_validator

from ossia.v1 import engine_pb2
from router.gateway.errors import Json
from router.gateway.parsing import Strict, unsupported, wrong
from router.gateway.schema import GenerationBody

_EFFORTS: dict[str, Literal["low", "medium", "high"]] = {
    "none": "low",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
}
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]


def _only_text(kind: str) -> str:
    if kind not in ("text", "refusal"):
        raise unsupported(f"parts of type '{kind[:64]}' are not supported: the model reads and writes text only")
    return kind


def _only_functions(kind: str) -> str:
    if kind != "function":
        raise unsupported(f"tools of type '{kind[:64]}' are not supported: use 'function'")
    return kind


def _only_free_choice(choice: object) -> object:
    if choice not in (None, "auto", "none"):
        raise unsupported("only 'auto' and 'none' are supported")
    return choice


def _known_effort(effort: str) -> str:
    if effort not in _EFFORTS:
        raise wrong(f"one of {', '.join(_EFFORTS)} is expected")
    return effort


class Part(Strict):
    """A piece of a message's text."""

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


class FunctionCall(Strict):
    name: str
    arguments: str


class ToolCallBody(Strict):
    """A call that the model made earlier."""

    id: str
    type: Annotated[str, AfterValidator(_only_functions)] = "function"
    function: FunctionCall


class Instructions(Strict):
    """A system or developer message."""

    role: Literal["system", "developer"]
    content: Content


class User(Strict):
    role: Literal["user"]
    content: Content


class Assistant(Strict):
    """An answer, as this gateway or another server gave it; of two spellings of the reasoning either is read."""

    role: Literal["assistant"]
    content: Content | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallBody] | None = None


class ToolResult(Strict):
    """What a tool answered to the call of that id."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str


MessageBody = Annotated[Instructions | User | Assistant | ToolResult, Discriminator("role")]


class Function(Strict):
    """A tool's declaration; `strict` is accepted and not enforced."""

    name: Name
    description: str | None = None
    parameters: Json | None = None


class ToolBody(Strict):
    type: Annotated[str, AfterValidator(_only_functions)]
    function: Function


class ChatBody(GenerationBody):
    """A conversation and how to continue it."""

    only: ClassVar = {
        "n": (1,),
        "presence_penalty": (0,),
        "frequency_penalty": (0,),
        "logit_bias": ({},),
        "logprobs": (False,),
        "top_logprobs": (0,),
        "response_format": ({"type": "text"},),
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

    messages: Annotated[list[MessageBody], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=1 << 32)] | None = None
    reasoning_effort: Annotated[str, AfterValidator(_known_effort)] | None = None
    tools: list[ToolBody] | None = None
    tool_choice: Annotated[str | None, BeforeValidator(_only_free_choice)] = None

    @property
    def names(self) -> Mapping[str, str]:
        tokens = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        return {"prompt": "messages", "max_tokens": tokens}

    @property
    def offered(self) -> list[ToolBody]:
        """The tools that the model may call."""
        return [] if self.tool_choice == "none" else self.tools or []

    def effort(self, default: Literal["low", "medium", "high"]) -> Literal["low", "medium", "high"]:
        """The model knows three efforts; the API's two lesser ones become the least of them."""
        return default if self.reasoning_effort is None else _EFFORTS[self.reasoning_effort]

    def sampling(self) -> engine_pb2.Sampling:
        sampling = super().sampling()
        if self.max_completion_tokens is not None:
            sampling.max_tokens = self.max_completion_tokens
        return sampling
