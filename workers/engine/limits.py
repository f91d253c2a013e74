"""What an engine can hold, and the one way in: a submission is checked against it and becomes a Request, or is refused."""

from collections.abc import Sequence
from dataclasses import dataclass

from workers.engine.adjustments import adjustments
from workers.engine.checks import check_sampling, check_tokens, invalid
from workers.engine.errors import Refusal
from workers.engine.geometry import Geometry
from workers.engine.grammar import Grammar
from workers.engine.hashing import Chain
from workers.engine.ints import Ints
from workers.engine.repetition import Repetition
from workers.engine.request import Key, Request
from workers.engine.sampling import Sampling

START = 200006  # <|start|>, before which a turn ends
DRAFT_SEQUENCES = 16  # beyond so many decodes in a step, wrong drafts cost more than right ones save (benchmarks.engine.drafts)
DRAFT_TOKENS = 8  # drafts of one request in a step


@dataclass(frozen=True)
class Limits:
    """Numbers of one replica, fixed for its life. A step computes at most `token_budget` tokens of `max_sequences` requests."""

    vocab_size: int
    stop_token_ids: frozenset[int]
    max_context: int  # tokens of prompt and output together
    block_size: int  # tokens
    kv_blocks: int  # of the full group
    sliding_blocks: int
    window: int  # tokens that sliding layers see
    max_sequences: int
    token_budget: int
    max_waiting: int = 1024  # requests
    draft_sequences: int = DRAFT_SEQUENCES  # decodes in a step up to which tokens are drafted by look-up; 0: never
    draft_tokens: int = DRAFT_TOKENS  # drafts of a request in a step, those that a grammar forces included; 0: none
    turn_token_id: int = START  # begins a message

    def __post_init__(self) -> None:
        assert self.token_budget >= self.max_sequences > 0, "every running sequence must get a token in every step"
        assert self.kv_blocks > 0, "a cache without blocks serves nothing"
        assert self.sliding_blocks >= self.geometry.entitled, "a sliding group without a whole window serves nothing"

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.block_size, self.window)

    @property
    def kv_tokens(self) -> int:
        return self.kv_blocks * self.block_size

    @property
    def context(self) -> int:
        """Most tokens that one request can have: the last output token is never written to the cache."""
        return min(self.max_context, self.kv_tokens + 1)

    def accept(
        self,
        key: Key,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        resume: Sequence[int] = (),
        scored: int = 0,
        priority: int = 0,
        deadline_s: float | None = None,
        salt: bytes = b"",
        held: bool = False,
        grammar: Grammar | None = None,
    ) -> Request:
        """A request that fits; raises Refusal (INVALID) naming the field at fault.

        `resume` is output that was told before, and `scored` how many log probabilities of the prompt were. `held` says that it
        will be held to a grammar by `hold`; one that is at hand can be given instead. The request may be made in one thread
        and run in another.
        """
        check_tokens(prompt, self.vocab_size, "prompt")
        check_tokens(resume, self.vocab_size, "resume.tokens")
        check_sampling(sampling, self.vocab_size)
        if (held or grammar is not None) and sampling.ignore_eos:
            message = "ignore_eos contradicts the grammar, behind whose end nothing may come"
            raise invalid(message, "SAMPLING_CONTRADICTORY", "sampling.ignore_eos")
        if scored and scored >= len(prompt):
            message = f"{len(prompt)} prompt tokens do not have {scored} log probabilities"
            raise invalid(message, "RESUME_MISMATCH", "resume.prompt_logprobs")
        stops = frozenset(sampling.stop_token_ids).union(() if sampling.ignore_eos else self.stop_token_ids)
        tokens = Ints(prompt)
        request = Request(
            key=key,
            tokens=tokens,
            prompt_tokens=len(prompt),
            sampling=sampling,
            max_tokens=self._max_tokens(len(prompt), sampling),
            stops=stops,
            chain=Chain(salt, self.block_size, self.turn_token_id),
            block_size=self.block_size,
            adjustments=adjustments(sampling, stops, tokens.array),
            repetition=Repetition(sampling.repetition_detection) if sampling.repetition_detection else None,
            priority=priority,
            deadline_s=deadline_s,
            scored=len(prompt) - 1 if resume else scored,  # they were told before the first token of output
        )
        _resume(request, resume)
        if grammar is not None:
            hold(request, grammar)
        return request

    def _max_tokens(self, prompt: int, sampling: Sampling) -> int:
        room = self._room(prompt)
        for name, tokens in (("max_tokens", sampling.max_tokens), ("min_tokens", sampling.min_tokens)):
            if tokens is not None and tokens > room:
                raise self._too_long(f"{prompt} prompt tokens and {name} {tokens}", f"sampling.{name}")
        return room if sampling.max_tokens is None else sampling.max_tokens

    def _room(self, prompt: int) -> int:
        """Output tokens that fit after a prompt of so many tokens."""
        if prompt == 0:
            raise invalid("the prompt is empty", "EMPTY_PROMPT", "prompt")
        if prompt >= self.context:
            raise self._too_long(f"{prompt} prompt tokens and at least one of output", "prompt")
        return self.context - prompt

    def _too_long(self, what: str, field: str) -> Refusal:
        if self.context < self.max_context:
            held = f"the KV cache holds {self.kv_tokens} tokens (raise --kv-memory)"
        else:
            held = f"the context holds {self.max_context} tokens"
        return invalid(f"{held}; {what} do not fit", "CONTEXT_LENGTH_EXCEEDED", field)


def hold(request: Request, grammar: Grammar) -> None:
    """Takes over a grammar at its start; raises Refusal (INVALID) where it forbids what was resumed."""
    try:
        request.hold(grammar)
    except ValueError as error:
        raise invalid(f"the grammar forbids the resumed output: {error}", "RESUME_MISMATCH", "resume.tokens") from error


def _resume(request: Request, tokens: Sequence[int]) -> None:
    """The request goes on behind these."""
    early = next((index for index, token in enumerate(tokens[:-1]) if token in request.stops), None)
    if early is not None:
        raise invalid(f"token {early} of the resumed output has ended it", "RESUME_MISMATCH", "resume.tokens")
    request.extend(tokens)
