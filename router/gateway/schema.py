"""The parameters that both endpoints of generation share, and how they become the protocol's Sampling."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from ossia.v1 import engine_pb2
from router.gateway.errors import invalid
from router.gateway.parsing import Body, Strict, wrong

MAX_STOP_STRINGS = 4
_UINT64 = (1 << 64) - 1


def _stop(value: object) -> object:
    """One string becomes a list of one, so that mistakes in either form read the same."""
    strings = [value] if isinstance(value, str) else value
    if isinstance(strings, list) and (len(strings) > MAX_STOP_STRINGS or "" in strings):
        raise wrong(f"stop holds at most {MAX_STOP_STRINGS} strings, none empty")
    return strings


class StreamOptions(Strict):
    """Details of a stream; `include_obfuscation` is accepted and never needed."""

    include_usage: bool | None = None


class GenerationBody(Body):
    """A request for tokens. None and absent mean the same everywhere."""

    harmless: ClassVar[frozenset[str]] = frozenset({"user"})

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=1 << 32)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    max_tokens: Annotated[int, Field(ge=1, lt=1 << 32)] | None = None
    stop: Annotated[list[str] | None, BeforeValidator(_stop)] = None

    @property
    def names(self) -> Mapping[str, str]:
        """Fields of the protocol's Submit and Sampling that this request calls by another name."""
        return {}

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def check(self) -> None:
        """What spans two parameters. Raises ApiError."""
        if self.stream_options is not None and not self.stream:
            raise invalid("'stream_options' is allowed only with 'stream': true", "stream_options")

    def sampling(self) -> engine_pb2.Sampling:
        """Absent scalars stay absent; a seed, signed in OpenAI's API, is taken by its two's complement."""
        return engine_pb2.Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=None if self.top_k is None else max(self.top_k, 0),
            seed=None if self.seed is None else self.seed & _UINT64,
            max_tokens=self.max_tokens,
        )
