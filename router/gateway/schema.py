"""The parameters that both endpoints of generation share, and how they become the protocol's Submit."""

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ossia.common.vocabulary import SIZE
from ossia.v1 import engine_pb2
from router.gateway.errors import invalid
from router.gateway.parsing import Body, Closed, wrong
from router.gateway.schema_formats import Held, ResponseFormat, StructuredOutputs

MAX_STOP_STRINGS = 4
MAX_STOP_LENGTH = 256  # characters: what might still become a stop string is compared with all its beginnings
MAX_STOP_TOKENS = 128
MAX_BIASES = 1024
MAX_PATTERN = 1024  # tokens
MAX_CHOICES = 128
MAX_PRIORITY = 1 << 30
_UINT64 = (1 << 64) - 1
_COPIED = (
    "temperature",
    "top_p",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "max_tokens",
    "min_tokens",
    "stop_token_ids",
    "ignore_eos",
)
"""Parameters that the protocol's Sampling has under the same name, in the same ranges, with the same meaning."""


StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]
_Stops = StopString | Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS)] | None


def _stop(value: object) -> object:
    """One string becomes a list of one, so that mistakes in either form read the same."""
    strings = [value] if isinstance(value, str) else value
    if isinstance(strings, list) and (len(strings) > MAX_STOP_STRINGS or not all(map(_is_stop, strings))):
        raise wrong(f"stop holds at most {MAX_STOP_STRINGS} strings of 1 to {MAX_STOP_LENGTH} characters")
    return strings


def _is_stop(value: object) -> bool:
    return not isinstance(value, str) or 1 <= len(value) <= MAX_STOP_LENGTH


def _biases(value: object) -> object:
    """The keys of a JSON object are strings; here they are token ids."""
    if not isinstance(value, dict):
        return value
    if len(value) > MAX_BIASES:
        raise wrong(f"at most {MAX_BIASES} token ids are expected")
    if wrongly := [key for key in value if not _is_id(key)]:
        raise wrong(f"token ids are expected as keys, such as \"1734\", and not '{wrongly[0][:32]}'")
    return {int(key): bias for key, bias in value.items()}


def _is_id(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) < 10 and str(int(key)) == key


class StreamOptions(Closed):
    """Details of a stream; its chunks are not padded to hide their lengths. `continuous_usage_stats` is vLLM's."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: Literal[False] | None = None


class RepetitionDetection(Closed):
    """Ends an output that repeats itself. A `max_pattern_size` of 0 asks for nothing."""

    max_pattern_size: Annotated[int, Field(ge=0, le=MAX_PATTERN)] = 0
    min_pattern_size: Annotated[int, Field(ge=0)] = 0
    min_count: Annotated[int, Field(ge=0, lt=1 << 32)] = 0

    @property
    def message(self) -> engine_pb2.RepetitionDetection | None:
        """The same for an engine."""
        if not self.max_pattern_size:
            return None
        shortest = max(self.min_pattern_size, 1)
        return engine_pb2.RepetitionDetection(
            max_pattern_size=self.max_pattern_size, min_pattern_size=shortest, min_count=self.min_count
        )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.min_pattern_size > self.max_pattern_size:
            raise wrong("min_pattern_size is at most max_pattern_size")
        if self.max_pattern_size and self.min_count < 2:
            raise wrong("min_count is 2 or more")
        return self


class GenerationBody(Body):
    """A request for tokens. None and absent mean the same everywhere."""

    prompt_param: ClassVar[str] = "prompt"  # what the prompt is made of

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=1 << 32)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    logit_bias: Annotated[dict[int, Annotated[float, Field(ge=-100, le=100)]] | None, BeforeValidator(_biases)] = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    max_tokens: Annotated[int, Field(ge=1, lt=1 << 32)] | None = None
    min_tokens: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    stop: Annotated[list[str] | None, BeforeValidator(_stop, json_schema_input_type=_Stops)] = None
    stop_token_ids: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=MAX_STOP_TOKENS)] | None = None
    ignore_eos: bool | None = None
    repetition_detection: RepetitionDetection | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] | None = None
    timeout: Annotated[float, Field(gt=0, le=86_400)] | None = None
    user: str | None = None

    @property
    def choices(self) -> int:
        """Answers to each prompt."""
        return self.n or 1

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def continuous_usage(self) -> bool:
        """Whether each chunk says what the request took so far."""
        return bool(self.stream_options and self.stream_options.continuous_usage_stats)

    @cached_property
    def held(self) -> Held | None:
        """What the answer is held to."""
        asked = self.structured_outputs or self.response_format
        return asked.held if asked else None

    @property
    def needs_grammar(self) -> str | None:
        """The first parameter that only a grammar can meet."""
        if self.held:
            return self.held.param
        return "structured_outputs.harmony" if self.structured_outputs else None

    @cached_property
    def names(self) -> Mapping[str, str]:
        """As in `from_engine`: what the fields of Submit are called in this request."""
        held = self.held.names if self.held else {}
        return {
            "prompt": self.prompt_param,
            "sampling.prompt_logprobs": "logprobs",
            "grammar": self.needs_grammar or "",
            **held,
            **self._own_names(),
        }

    def check(self) -> None:
        """What spans two parameters. Raises ApiError."""
        if self.stream_options is not None and not self.stream:
            raise invalid("'stream_options' is allowed only with 'stream': true", "stream_options")
        if self.continuous_usage and not self.include_usage:
            raise invalid("'continuous_usage_stats' needs 'include_usage': true", "stream_options.continuous_usage_stats")
        if self.structured_outputs and self.response_format and self.response_format.held:
            raise invalid("'structured_outputs' and 'response_format' cannot both hold the answer", "structured_outputs")
        sampling = self.sampling()
        if sampling.HasField("max_tokens") and sampling.min_tokens > sampling.max_tokens:
            raise invalid(f"'min_tokens' is more than the {sampling.max_tokens} tokens that there may be", "min_tokens")

    def check_vocabulary(self, card: engine_pb2.DescribeResponse) -> None:
        """What depends on the model's vocabulary. Raises ApiError."""
        for param, ids in (("logit_bias", self.logit_bias or ()), ("stop_token_ids", self.stop_token_ids or ())):
            check_ids(ids, card, param)
        if self.top_k and self.top_k > card.vocab_size:
            raise invalid(f"'top_k' is more than the {card.vocab_size} tokens of the vocabulary", "top_k")
        if needing := self.needs_grammar:
            self.check_grammar(needing, card)

    def check_grammar(self, needing: str, card: engine_pb2.DescribeResponse) -> None:
        """Whether a grammar can hold the output to what that parameter asks for. Raises ApiError."""
        if self.ignore_eos:
            raise invalid(f"'ignore_eos' contradicts '{needing}': what that asks for has an end", "ignore_eos")
        if card.vocab_size != SIZE:
            raise invalid(f"'{needing}' needs a model of gpt-oss's vocabulary, and this one has another", needing)

    def submit(self, prompt: Sequence[int], card: engine_pb2.DescribeResponse) -> engine_pb2.Submit:
        """What the engine is asked for one answer to this prompt."""
        return engine_pb2.Submit(
            prompt=prompt,
            sampling=self.sampling(),
            grammar=self.grammar(card),
            cache_salt=(self.cache_salt or "").encode(),
            priority=self.urgency,
            deadline_unix_ms=None if self.timeout is None else int((time.time() + self.timeout) * 1000),
        )

    @property
    def urgency(self) -> int:
        """The protocol's priority: higher is earlier there, while vLLM's `priority` is a rank."""
        return -(self.priority or 0)

    def sampling(self) -> engine_pb2.Sampling:
        """Absent scalars stay absent; a seed, signed in OpenAI's API, is taken by its two's complement."""
        given = {name: value for name in _COPIED if (value := getattr(self, name)) is not None}
        return engine_pb2.Sampling(
            **given,
            top_k=None if self.top_k is None else max(self.top_k, 0),
            seed=None if self.seed is None else self.seed & _UINT64,
            repetition_detection=self.repetition_detection.message if self.repetition_detection else None,
            logit_bias=[engine_pb2.LogitBias(id=id_, bias=bias) for id_, bias in (self.logit_bias or {}).items()],
        )

    def _own_names(self) -> Mapping[str, str]:
        """Those that only this endpoint has."""
        return {}

    def grammar(self, card: engine_pb2.DescribeResponse) -> engine_pb2.Grammar | None:
        """What the output is held to, None for nothing."""
        if not self.held and not self.structured_outputs:
            return None
        grammar = engine_pb2.Grammar(harmony=bool(self.structured_outputs and self.structured_outputs.harmony))
        if self.held:
            grammar.MergeFrom(self.held.grammar)
        return grammar


def check_ids(ids: Sequence[int] | Mapping[int, float], card: engine_pb2.DescribeResponse, param: str) -> None:
    """Raises ApiError where one of them is no token."""
    if ids and (min(ids) < 0 or max(ids) >= card.vocab_size):
        raise invalid(f"token ids are expected from 0 to {card.vocab_size - 1}", param)
