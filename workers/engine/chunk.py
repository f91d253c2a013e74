"""What a step computes of one request."""

from dataclasses import dataclass

from workers.engine.drafts import NO_DRAFTS, Drafts
from workers.engine.request import Request


@dataclass(frozen=True)
class Chunk:
    """Tokens `start` to `stop` of a request, and drafts behind the last token there is, run in one step.

    Made, used and dropped between two changes of the request.
    """

    request: Request
    start: int
    stop: int
    drafts: Drafts = NO_DRAFTS

    @property
    def length(self) -> int:
        return self.stop - self.start + len(self.drafts.tokens)

    @property
    def scores(self) -> range:
        """Prompt tokens whose successors' log probabilities it tells."""
        request = self.request
        if not request.unscored:
            return range(0)
        return range(max(self.start, request.scored), min(self.stop, request.prompt_tokens - 1))

    @property
    def samples(self) -> int:
        """Output tokens that it samples: one behind the last token there is, and one behind each draft."""
        return 1 + len(self.drafts.tokens) if self.stop == self.request.length and self.request.more > 0 else 0


def prefill(request: Request, tokens: int, rows: int) -> Chunk:
    """As much of what is uncomputed as goes into so many tokens, and of what is unscored into so many rows."""
    stop = min(request.length, request.computed + tokens)
    if request.unscored > rows:
        stop = min(stop, max(request.computed, request.scored) + rows)
    return Chunk(request, request.computed, stop)
