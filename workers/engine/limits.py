"""What an engine can hold, and the one way in: a submission is checked against it and becomes a Request, or is refused."""

from collections.abc import Sequence
from dataclasses import dataclass

from workers.engine.errors import Cause, Refusal
from workers.engine.request import Key, Request, Sampling

MAX_LOGPROBS = 20


@dataclass(frozen=True)
class Limits:
    """Numbers of one replica, fixed for its life. A step computes at most `token_budget` tokens of `max_sequences` requests."""

    vocab_size: int
    stop_token_ids: frozenset[int]
    max_context: int  # tokens of prompt and output together
    block_size: int  # tokens
    kv_blocks: int
    max_sequences: int
    token_budget: int
    max_waiting: int = 1024  # requests

    def __post_init__(self) -> None:
        assert self.token_budget >= self.max_sequences > 0, "every running sequence must get a token in every step"
        assert self.kv_blocks > 0, "a cache without blocks serves nothing"

    @property
    def kv_tokens(self) -> int:
        return self.kv_blocks * self.block_size

    @property
    def context(self) -> int:
        """Most tokens that one request can have: the last output token is never written to the cache."""
        return min(self.max_context, self.kv_tokens + 1)

    def blocks(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.block_size)

    def accept(
        self,
        key: Key,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        resume: Sequence[int] = (),
        priority: int = 0,
        deadline_s: float | None = None,
    ) -> Request:
        """A request that fits; raises Refusal (INVALID) naming the field at fault."""
        self._check_tokens(prompt, "prompt")
        self._check_tokens(resume, "resume.tokens")
        _check_sampling(sampling, self.vocab_size)
        room = self._room(len(prompt))
        if sampling.max_tokens is not None and sampling.max_tokens > room:
            raise _too_long(f"{len(prompt)} prompt tokens and max_tokens {sampling.max_tokens}", self, "sampling.max_tokens")
        return Request(
            key,
            prompt,
            sampling,
            room if sampling.max_tokens is None else sampling.max_tokens,
            self.stop_token_ids.union(sampling.stop_token_ids),
            list(resume),
            priority,
            deadline_s,
        )

    def _check_tokens(self, tokens: Sequence[int], field: str) -> None:
        largest = max(tokens, default=0)
        if largest >= self.vocab_size:
            raise _invalid(f"token id {largest} is outside the vocabulary of {self.vocab_size}", "TOKEN_OUT_OF_RANGE", field)

    def _room(self, prompt: int) -> int:
        """Output tokens that fit after a prompt of so many tokens."""
        if prompt == 0:
            raise _invalid("the prompt is empty", "EMPTY_PROMPT", "prompt")
        if prompt >= self.context:
            raise _too_long(f"{prompt} prompt tokens and at least one of output", self, "prompt")
        return self.context - prompt


def _check_sampling(sampling: Sampling, vocab_size: int) -> None:
    ranges = (
        ("temperature", 0 <= sampling.temperature <= 2, "from 0 to 2"),
        ("top_p", 0 < sampling.top_p <= 1, "above 0 and at most 1"),
        ("top_k", 0 <= sampling.top_k <= vocab_size, f"from 0 to {vocab_size}"),
        ("logprobs", -1 <= sampling.logprobs <= MAX_LOGPROBS, f"from 0 to {MAX_LOGPROBS}"),
    )
    for name, valid, wanted in ranges:
        if not valid:
            message = f"{name} is {getattr(sampling, name)}, it must be {wanted}"
            raise _invalid(message, "SAMPLING_OUT_OF_RANGE", f"sampling.{name}")


def _too_long(what: str, limits: Limits, field: str) -> Refusal:
    if limits.context < limits.max_context:
        held = f"the KV cache holds {limits.kv_tokens} tokens (raise --kv-memory)"
    else:
        held = f"the context holds {limits.max_context} tokens"
    return _invalid(f"{held}; {what} do not fit", "CONTEXT_LENGTH_EXCEEDED", field)


def _invalid(message: str, reason: str, field: str) -> Refusal:
    return Refusal(Cause.INVALID, message, reason=reason, field=field)
