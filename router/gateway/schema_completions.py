"""The body of POST /v1/completions."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from ossia.v1 import engine_pb2
from router.gateway.errors import invalid
from router.gateway.parsing import wrong
from router.gateway.schema import MAX_CHOICES, GenerationBody

DEFAULT_MAX_TOKENS = 16
Prompt = str | list[int]
_Given = Annotated[str, Field(min_length=1)] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
_Many = Annotated[list[_Given], Field(min_length=1, max_length=MAX_CHOICES)]


def _prompts(value: object) -> list[Prompt]:
    """One prompt or a list of them, as text or token ids, becomes a list of prompts, none of them empty."""
    single = isinstance(value, str) or (isinstance(value, list) and bool(value) and all(_is_id(item) for item in value))
    prompts = [value] if single else value
    if not isinstance(prompts, list) or not all(_is_prompt(prompt) for prompt in prompts):
        raise PydanticCustomError("prompt_type", "a string, a list of token ids, or a list of either is expected")
    if not prompts or not all(prompts) or len(prompts) > MAX_CHOICES:
        raise wrong(f"from 1 to {MAX_CHOICES} prompts are expected, none of them empty")
    return prompts


def _is_id(value: object) -> bool:
    return type(value) is int


def _is_prompt(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(_is_id(item) for item in value))


class CompletionBody(GenerationBody):
    """Prompts as they are: text is encoded as ordinary text, token ids may be any of the vocabulary."""

    only: ClassVar = {"suffix": ("",)}

    prompt: Annotated[Any, BeforeValidator(_prompts, json_schema_input_type=_Given | _Many)]
    max_tokens: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    best_of: int | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    thinking_token_budget: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    return_token_ids: bool | None = None

    @property
    def prompts(self) -> list[Prompt]:
        prompts: list[Prompt] = self.prompt
        return prompts

    def check(self) -> None:
        super().check()
        if self.best_of not in (None, self.choices):
            raise invalid("'best_of' is supported only when it equals 'n'", "best_of", "unsupported_value")
        if self.max_tokens == 0 and not self.echo:
            raise invalid("'max_tokens' may be 0 only with 'echo'", "max_tokens")
        if self.thinking_token_budget is not None and not (self.structured_outputs and self.structured_outputs.harmony):
            message = "'thinking_token_budget' needs 'structured_outputs': {'harmony': true}: other output has no reasoning"
            raise invalid(message, "thinking_token_budget")
        if len(self.prompts) * self.choices > MAX_CHOICES:
            raise invalid(f"{len(self.prompts)} prompts with 'n' {self.n} are more than {MAX_CHOICES} choices", "n")

    def submit(self, prompt: Sequence[int], card: engine_pb2.DescribeResponse) -> engine_pb2.Submit:
        submit = super().submit(prompt, card)
        if self.max_tokens is None:
            submit.sampling.max_tokens = min(max(DEFAULT_MAX_TOKENS, self.min_tokens or 0), card.max_context - len(prompt))
        return submit

    def grammar(self, card: engine_pb2.DescribeResponse) -> engine_pb2.Grammar | None:
        grammar = super().grammar(card)
        if grammar is not None and self.thinking_token_budget is not None:
            grammar.reasoning_tokens = self.thinking_token_budget
        return grammar

    def sampling(self) -> engine_pb2.Sampling:
        sampling = super().sampling()
        if self.logprobs is not None:
            sampling.logprobs = self.logprobs
            if self.echo:
                sampling.prompt_logprobs = self.logprobs
        return sampling

    def _own_names(self) -> Mapping[str, str]:
        return {"grammar.reasoning_tokens": "thinking_token_budget"}
