"""What an engine tells the world after every step. Frozen: reports cross from the step thread to others."""

from dataclasses import dataclass

from workers.engine.errors import Refusal
from workers.engine.request import Finish, Key


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int
    output_tokens: int  # resumed ones included
    cached_tokens: int = 0  # of the prompt, whose prefill was skipped
    drafted_tokens: int = 0  # of the output
    accepted_tokens: int = 0  # of the drafted ones


@dataclass(frozen=True)
class TokenLogprobs:
    """Natural logs at temperature 1; alternatives are most likely first, ties to the lowest id."""

    logprob: float
    top_ids: tuple[int, ...]
    top_logprobs: tuple[float, ...]


@dataclass(frozen=True)
class Output:
    """What one step changed for one request."""

    key: Key
    first_index: int  # in the output, of tokens[0]; the output's length where there are none
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()  # one a token where asked for
    end: Finish | Refusal | None = None
    usage: Usage | None = None  # with a Finish
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()  # of the next prompt tokens, from the second on, where asked for


@dataclass(frozen=True)
class Load:
    """`ossia.v1.Load` in plain numbers, and what only metrics tell; tokens unless said otherwise."""

    step: int = 0  # steps completed
    running: int = 0  # requests
    waiting: int = 0  # requests
    prefill_tokens: int = 0
    kv_tokens_used: int = 0
    kv_tokens_total: int = 0
    step_p99_ms: float = 0.0
    tokens_generated: int = 0
    preemptions: int = 0  # requests put back to waiting
    sliding_tokens_used: int = 0  # of KV cache, in the layers that see a window
    sliding_tokens_total: int = 0


@dataclass(frozen=True)
class KvEvents:
    """`ossia.v1.KvEvents`: blocks that are cached now and were not before, or the other way round, by name."""

    sequence: int  # of a snapshot, that of the last events in it
    snapshot: bool
    full_removed: tuple[bytes, ...]
    full_stored: tuple[bytes, ...]
    sliding_removed: tuple[bytes, ...]
    sliding_stored: tuple[bytes, ...]


@dataclass(frozen=True)
class Report:
    load: Load
    outputs: tuple[Output, ...]
    step_tokens: int  # tokens computed; 0 where the step only kept the ranks in touch
    step_s: float  # duration of the step, seconds
    kv: KvEvents | None = None  # where the step changed what is cached
