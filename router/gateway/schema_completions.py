"""The body of POST /v1/completions."""

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from ossia.v1 import engine_pb2
from router.gateway.parsing import wrong
from router.gateway.schema import GenerationBody

DEFAULT_MAX_TOKENS = 16
MAX_PROMPTS = 128
Prompt = str | list[int]


def _prompts(value: object) -> list[Prompt]:
    """One prompt or a list of them, as text or token ids, becomes a list of prompts, none of them empty."""
    single = isinstance(value, str) or (isinstance(value, list) and bool(value) and all(_is_id(item) for item in value))
    prompts = [value] if single else value
    if not isinstance(prompts, list) or not all(_is_prompt(prompt) for prompt in prompts):
        raise PydanticCustomError("prompt_type", "a string, a list of token ids, or a list of either is expected")
    if not prompts or not all(prompts) or len(prompts) > MAX_PROMPTS:
        raise wrong(f"from 1 to {MAX_PROMPTS} prompts are expected, none of them empty")
    return prompts


def _is_id(value: object) -> bool:
    return type(value) is int


def _is_prompt(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(_is_id(item) for item in value))


class CompletionBody(GenerationBody):
    """Prompts as they are: text is encoded as ordinary text, token ids may be any of the vocabulary."""

    only: ClassVar = {
        "n": (1,),
        "best_of": (1,),
        "echo": (False,),
        "suffix": ("",),
        "presence_penalty": (0,),
        "frequency_penalty": (0,),
        "logit_bias": ({},),
    }

    prompt: Annotated[Any, BeforeValidator(_prompts)]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    return_token_ids: bool | None = None

    @property
    def prompts(self) -> list[Prompt]:
        prompts: list[Prompt] = self.prompt
        return prompts

    def sampling(self) -> engine_pb2.Sampling:
        sampling = super().sampling()
        if self.logprobs is not None:
            sampling.logprobs = self.logprobs
        return sampling
