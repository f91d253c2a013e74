"""What a step computed for one request, read from the rows that its chunk asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from workers.engine.chunk import Chunk
from workers.engine.errors import Cause, Refusal
from workers.engine.plan import NOT_FINITE, NOTHING_ALLOWED, Sampled
from workers.engine.report import Output, TokenLogprobs, Usage
from workers.engine.request import Finish, Request


@dataclass(frozen=True)
class Outcome:
    tokens: tuple[int, ...]  # output
    logprobs: tuple[TokenLogprobs, ...]  # one a token where asked for
    prompt_logprobs: tuple[TokenLogprobs, ...]
    end: Finish | Refusal | None = None  # what came in place of another token
    stalled: bool = False  # nothing came in its place: the grammar has to be renewed first, or asked again behind the drafts

    @property
    def accepted(self) -> int:
        """Drafts that proved right: the last token, or what came in its place, is behind them."""
        return len(self.tokens) - (self.end is None and not self.stalled)


def outcomes(chunks: Sequence[Chunk], sampled: Sampled) -> Iterator[tuple[Chunk, Outcome]]:
    """Each chunk with what it yields; a request may change once its chunk is out."""
    tokens, row = sampled.tokens.tolist(), 0
    for chunk in chunks:
        middle = row + len(chunk.scores)
        stop = middle + chunk.samples
        yield chunk, _outcome(chunk, sampled, tokens, range(row, middle), range(middle, stop))
        row = stop


def _outcome(chunk: Chunk, sampled: Sampled, tokens: list[int], scores: range, samples: range) -> Outcome:
    accepted = tuple(_accepted(chunk, tokens[samples.start : samples.stop]))
    broken = NOT_FINITE in accepted or NOT_FINITE in tokens[scores.start : scores.stop]
    nothing = NOTHING_ALLOWED in accepted
    stalled = nothing and not broken and (len(accepted) > 1 or chunk.request.stalled)  # it stands before the drafts still
    end: Finish | Refusal | None = None
    if broken:
        end = Refusal(Cause.BROKEN, "the model's logits are not finite numbers", reason="LOGITS_NOT_FINITE")
    elif nothing and not stalled:
        end = chunk.request.held_up
    accepted = tuple(token for token in accepted if token >= 0)
    asked = samples[: len(accepted)] if chunk.request.sampling.logprobs >= 0 else ()
    return Outcome(accepted, _logprobs(sampled, asked), _logprobs(sampled, scores), end, stalled)


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


def usage(request: Request) -> Usage:
    """Of a request that has ended."""
    return Usage(request.prompt_tokens, len(request.output), request.cached or 0, request.drafted, request.accepted)


def ending(request: Request, end: Finish | Refusal) -> Output:
    """The end of a request that no step brought about."""
    return Output(request.key, len(request.output), end=end, usage=usage(request) if isinstance(end, Finish) else None)
