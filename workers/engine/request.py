"""A request and what is derived from it. Knows neither when it runs nor where its blocks are."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

Key = tuple[int, int]  # names a request: session and rid, opaque to the engine


class Finish(Enum):
    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"


@dataclass(frozen=True)
class Sampling:
    """How output tokens are chosen; ranges and defaults are those of `ossia.v1.Sampling`."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0
    max_tokens: int | None = None  # None: what the context still holds
    min_tokens: int = 0  # output tokens before which nothing stops
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False  # the model's own stop tokens do not stop
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()  # ids and what is added to their logits
    logprobs: int = -1  # alternatives to report, -1 for no log probabilities at all
    prompt_logprobs: int = -1  # the same for the prompt's tokens, from the second on


@dataclass(eq=False)
class Request:
    """One sequence. `workers.engine.limits.Limits.accept` makes valid ones; only the scheduler changes them.

    `output` begins with the tokens of a resumption, so positions, limits and usage need no second case.
    """

    key: Key
    prompt: Sequence[int]
    sampling: Sampling
    max_tokens: int  # output tokens, resumed ones included
    stops: frozenset[int]
    output: list[int]
    priority: int = 0
    deadline_s: float | None = None  # on the scheduler's clock
    arrival: int = 0  # order of submission
    computed: int = 0  # tokens whose keys and values are in the cache
    blocks: list[int] = field(default_factory=list)  # block table

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.output)

    @property
    def uncomputed(self) -> int:
        """Tokens to run before the next one can be sampled: 1 is a decode, more is a prefill."""
        return self.length - self.computed

    @property
    def rank(self) -> tuple[int, int]:
        """Sorts what runs first first: higher priority, then earlier arrival."""
        return (-self.priority, self.arrival)

    @property
    def finish(self) -> Finish | None:
        """What the output says by itself; cancels and deadlines come from outside."""
        if self.output and self.output[-1] in self.stops:
            return Finish.STOP
        return Finish.LENGTH if len(self.output) >= self.max_tokens else None

    def tokens(self, start: int, stop: int) -> list[int]:
        """Tokens `start` to `stop` of prompt and output together."""
        split = len(self.prompt)
        return [*self.prompt[start:stop], *self.output[max(start - split, 0) : max(stop - split, 0)]]
