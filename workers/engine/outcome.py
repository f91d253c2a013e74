"""What a step computed for one request, read from the rows that its chunk asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from workers.engine.chunk import Chunk
from workers.engine.errors import Cause, Refusal
from workers.engine.plan import Sampled
from workers.engine.report import Output, TokenLogprobs, Usage
from workers.engine.request import Finish, Request

NOT_FINITE, NOTHING_ALLOWED = -1, -2  # in Sampled.tokens


@dataclass(frozen=True)
class Outcome:
    tokens: tuple[int, ...]  # output
    logprobs: tuple[TokenLogprobs, ...]  # one a token where asked for
    prompt_logprobs: tuple[TokenLogprobs, ...]
    end: Finish | Refusal | None = None  # what came in place of another token

    @property
    def accepted(self) -> int:
        """Drafts that proved right: the last token, or what came in its place, is behind them."""
        return len(self.tokens) - (self.end is None)


def outcomes(chunks: Sequence[Chunk], sampled: Sampled) -> Iterator[tuple[Chunk, Outcome]]:
    """Each chunk with what it yields; a request may change once its chunk is out."""
    row = 0
    for chunk in chunks:
        middle = row + len(chunk.scores)
        stop = middle + chunk.samples
        yield chunk, _outcome(chunk, sampled, range(row, middle), range(middle, stop))
        row = stop


def ending(request: Request, end: Finish | Refusal | None) -> Output:
    """That the request has ended, where it has."""
    usage = Usage(request.prompt_tokens, len(request.output), request.cached or 0, request.drafted, request.accepted)
    return Output(request.key, len(request.output), end=end, usage=usage if isinstance(end, Finish) else None)


def _outcome(chunk: Chunk, sampled: Sampled, scores: range, samples: range) -> Outcome:
    tokens = tuple(_accepted(chunk, sampled.tokens[samples.start : samples.stop].tolist()))
    end: Finish | Refusal | None = None
    if NOT_FINITE in sampled.tokens[scores.start : scores.stop] or tokens[-1:] == (NOT_FINITE,):
        end = Refusal(Cause.BROKEN, "the model's logits are not finite numbers", reason="LOGITS_NOT_FINITE")
    elif tokens[-1:] == (NOTHING_ALLOWED,):
        end = Finish.GRAMMAR
    tokens = tuple(token for token in tokens if token >= 0)
    asked = samples[: len(tokens)] if chunk.request.sampling.logprobs >= 0 else ()
    return Outcome(tokens, _logprobs(sampled, asked), _logprobs(sampled, scores), end)


def _accepted(chunk: Chunk, tokens: Sequence[int]) -> Iterator[int]:
    """The first token, and each that was sampled behind a draft which is what was sampled in its place."""
    for token, draft in zip(tokens, (*chunk.drafts.tokens, None), strict=False):
        yield token
        if token != draft:
            return


def _logprobs(sampled: Sampled, rows: Sequence[int]) -> tuple[TokenLogprobs, ...]:
    return tuple(
        TokenLogprobs(
            float(sampled.logprobs[row]),
            tuple(sampled.top_ids[row].tolist()),
            tuple(sampled.top_logprobs[row].tolist()),
        )
        for row in rows
    )
