"""A request and what is derived from it. Knows neither when it runs nor what else does."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from workers.engine.adjustments import Adjustments
from workers.engine.grammar import Allowed, Grammar, Later, coming
from workers.engine.guarded import Guarded
from workers.engine.hashing import Chain
from workers.engine.ints import Array, Ints
from workers.engine.pace import Pace
from workers.engine.repetition import Repetition
from workers.engine.sampling import Sampling

Key = tuple[int, int]  # names a request: session and rid, opaque to the engine


class Finish(Enum):
    STOP = "stop"
    LENGTH = "length"
    REPETITION = "repetition"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    GRAMMAR = "grammar"  # a dead end
    GRAMMAR_FAILED = "grammar_failed"  # our own fault


@dataclass(eq=False)
class Request:
    """One sequence. `workers.engine.limits.Limits.accept` makes valid ones; only scheduler and cache change them.

    The output begins with the tokens of a resumption, so positions, limits and usage need no second case.
    """

    key: Key
    tokens: Ints  # prompt and output
    prompt_tokens: int
    sampling: Sampling
    max_tokens: int  # output tokens, resumed ones included
    stops: frozenset[int]
    chain: Chain
    block_size: int
    adjustments: Adjustments | None = None  # after the output
    repetition: Repetition | None = None  # of the output
    priority: int = 0
    deadline_s: float | None = None  # on the scheduler's clock
    arrival: int = 0  # order of submission
    computed: int = 0  # tokens whose keys and values are in the cache
    scored: int = 0  # prompt tokens whose successors' log probabilities have been told
    cached: int | None = None  # prompt tokens that were never computed, once it has run
    drafted: int = 0  # output tokens
    accepted: int = 0  # of these
    blocks: Ints = field(default_factory=Ints)  # block table of the full group, empty where the request does not run
    sliding: list[int] = field(default_factory=list)  # of the sliding group, from block `Geometry.first(computed)` on
    pace: Pace = field(default_factory=Pace)
    grammar: Grammar | None = field(init=False, default=None)  # after the output
    mask: Allowed | Later = field(init=False, default=None)  # the grammar's, for the next output token

    def __post_init__(self) -> None:
        self.chain.extend(self.tokens.array, 0)
        # behind the prompt another may go on, and where its length is a multiple the same one a block before
        self.chain.marks.update({self.prompt_tokens // self.block_size, (self.prompt_tokens - 1) // self.block_size})

    @property
    def length(self) -> int:
        return self.tokens.length

    @property
    def output(self) -> Array:
        return self.tokens.array[self.prompt_tokens :]

    @property
    def uncomputed(self) -> int:
        """Tokens to run before the next one can be sampled: 1 is a decode, more is a prefill."""
        return self.length - self.computed

    @property
    def unscored(self) -> int:
        """Prompt tokens whose successors' log probabilities are still to be told."""
        return max(0, self.prompt_tokens - 1 - self.scored) if self.sampling.prompt_logprobs >= 0 else 0

    @property
    def reusable(self) -> int:
        """Whole blocks that may come from the cache: the last token is computed always, and so is what is to be scored."""
        return (min(self.length - 1, self.scored) if self.unscored else self.length - 1) // self.block_size

    @property
    def rank(self) -> tuple[int, int]:
        """Sorts what runs first first: higher priority, then earlier arrival."""
        return (-self.priority, self.arrival)

    @property
    def more(self) -> int:
        """Output tokens that it may still have."""
        return self.max_tokens + self.prompt_tokens - self.length

    @property
    def finish(self) -> Finish | None:
        """What the request says by itself; cancels and deadlines come from outside."""
        if self.length > self.prompt_tokens and int(self.tokens.array[-1]) in self.stops:
            return Finish.STOP
        if self.more <= 0 and not self.unscored:
            return Finish.LENGTH
        if self.repetition is not None and self.repetition.found and len(self.output) >= self.sampling.min_tokens:
            return Finish.REPETITION
        return self.held_up if isinstance(self.mask, np.ndarray) and not self.mask.any() else None

    @property
    def held_up(self) -> Finish:
        """Why nothing may come next, where that is so."""
        failed = isinstance(self.grammar, Guarded) and self.grammar.failed
        return Finish.GRAMMAR_FAILED if failed else Finish.GRAMMAR

    @property
    def stalled(self) -> bool:
        """Nothing comes next before `renew` has been called."""
        return self.grammar is not None and self.grammar.stalled

    def renew(self) -> None:
        """Lets the grammar go on, which takes up to seconds. Not while a step runs it."""
        assert self.grammar is not None, "what is not held does not stall"
        self.grammar.renew()

    def hold(self, grammar: Grammar) -> None:
        """Holds the output to a grammar at its start, which takes a while. Raises ValueError where that forbids the output."""
        for token in self.output.tolist():
            if token not in self.stops:
                grammar.accept(token)
        mask = grammar.mask()
        while grammar.stalled:
            grammar.renew()
            mask = grammar.mask()
        self.grammar, self.mask = grammar, mask

    def extend(self, tokens: Sequence[int]) -> None:
        """The output goes on by these, at most the last of which is a stop. Raises ValueError where the grammar forbids one."""
        start = self.length
        self.tokens.extend(tokens)
        self.chain.extend(self.tokens.array, start)
        for place, token in enumerate(tokens, start + 1):
            if self.adjustments is not None:
                self.adjustments.add(token)
            if self.repetition is not None and self.length - place < self.repetition.reach:
                self.repetition.add(self.tokens.array[self.prompt_tokens : place])
            if self.grammar is not None and token not in self.stops:
                self.grammar.accept(token)
        if self.grammar is not None and len(tokens):
            self.mask = coming(self.grammar)

    def learn(self, drafted: int, accepted: int, looked_up: bool) -> None:
        """So many drafts for the next tokens of the output, and so many right ones."""
        self.drafted += drafted
        self.accepted += accepted
        if looked_up:
            self.pace.learn(drafted, accepted, len(self.output) + accepted)


def by_rank(request: Request) -> tuple[int, int]:
    return request.rank
