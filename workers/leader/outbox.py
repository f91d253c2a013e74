"""What one request has produced and its client has not been sent, under the client's credit."""

from ossia.v1 import engine_pb2
from workers.engine.errors import Refusal
from workers.engine.report import Output, TokenLogprobs, Usage
from workers.engine.request import Finish
from workers.leader import codec


class Outbox:
    """Merges outputs until they may be sent. Holds at most the request's max_tokens, and its prompt's log probabilities.

    The first output token to send has index `first_index`, the first log probability of the prompt `first_prompt_logprob`.
    """

    def __init__(self, rid: int, first_index: int, credit: int | None, first_prompt_logprob: int = 0) -> None:
        self._rid = rid
        self._first_index = first_index
        self._first_prompt_logprob = first_prompt_logprob
        self._credit = credit  # tokens that may be sent; None is unlimited
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprobs] = []
        self._prompt_logprobs: list[TokenLogprobs] = []  # sent before any token, whatever the credit
        self._end: Finish | Refusal | None = None
        self._failed: Refusal | None = None  # what it ends with, whatever the engine says
        self._usage: Usage | None = None

    @property
    def ended(self) -> bool:
        """The engine is done with the request."""
        return self._end is not None

    @property
    def unsent(self) -> int:
        """Tokens that wait for the client, those of the prompt with their log probabilities included."""
        return len(self._tokens) + len(self._prompt_logprobs)

    @property
    def flows(self) -> bool:
        """The client has credit left for all that is unsent: it takes what it is sent."""
        return self._credit is not None and self.unsent <= self._credit

    def add(self, output: Output) -> None:
        """Takes in what a step produced. An end that the client need not wait for drops what is unsent."""
        self._tokens += output.tokens
        self._logprobs += output.logprobs
        self._prompt_logprobs += output.prompt_logprobs
        self._end, self._usage = output.end, output.usage
        if self._failed is not None:
            self.fail(self._failed)
        elif self._end is Finish.CANCELLED or isinstance(self._end, Refusal):
            self._drop()

    def fail(self, refusal: Refusal) -> None:
        """Drops what is unsent and what comes yet; `refusal` is told as soon as the engine is done with the request."""
        self._failed = refusal
        if self.ended:
            self._end, self._usage = refusal, None
        self._drop()

    def grant(self, tokens: int) -> None:
        if self._credit is not None:
            self._credit += tokens

    def lift(self) -> None:
        """No more credit can come: everything may be sent."""
        self._credit = None

    def abandon(self) -> None:
        """Cancels a request that the engine is done with but whose output waits for credit."""
        self._end = Finish.CANCELLED
        self._drop()

    def take(self) -> engine_pb2.Delta | None:
        """What may be sent now, None where nothing may. The end goes out with the last token."""
        count = len(self._tokens) if self._credit is None else min(len(self._tokens), self._credit)
        last = self.ended and count == len(self._tokens)
        if not count and not last and not self._prompt_logprobs:
            return None
        delta = engine_pb2.Delta(
            rid=self._rid,
            first_index=self._first_index,
            tokens=self._tokens[:count],
            logprobs=map(codec.logprobs, self._logprobs[:count]),
            prompt_logprobs=map(codec.logprobs, self._prompt_logprobs),
            first_prompt_logprob=self._first_prompt_logprob,
        )
        self._forget(count)
        if last:
            self._finish(delta)
        return delta

    def _forget(self, count: int) -> None:
        self._first_index += count
        if self._credit is not None:
            self._credit -= count
        del self._tokens[:count], self._logprobs[:count]
        self._first_prompt_logprob += len(self._prompt_logprobs)
        self._prompt_logprobs.clear()

    def _finish(self, delta: engine_pb2.Delta) -> None:
        if isinstance(self._end, Refusal):
            delta.error.CopyFrom(codec.status(self._end))
        elif self._end is not None:
            delta.finish = codec.FINISHES[self._end]
        if self._usage is not None:
            delta.usage.CopyFrom(codec.usage(self._usage))

    def _drop(self) -> None:
        self._tokens.clear()
        self._logprobs.clear()
        self._prompt_logprobs.clear()
