"""The prompt of a response's next turn: all that was said, as tokens, shortened where that is asked for. Knows no engine."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from router.gateway.errors import Json, invalid
from router.gateway.responses.offer import Offer
from router.gateway.responses.schema import Context
from router.gateway.responses.transcript import Transcript, cuts, without
from router.harmony.render import render
from router.harmony.types import Effort, HarmonyError, Message

_ROOM = 4096  # tokens, or a quarter of the context: what truncation leaves for an answer without a limit of its own


@dataclass(frozen=True)
class Prompt:
    """What it is made of: `history` are the items before the request's own, `transcript` tells of both, `size` as in Intake."""

    body: Context
    offer: Offer
    history: Sequence[Json]
    items: Sequence[Json]
    transcript: Transcript
    effort: Effort
    today: date | None
    size: int

    @property
    def context(self) -> list[Json]:
        return [*self.history, *self.items]

    def tokens(self, output: Sequence[Json], context: int, left: int | None) -> list[int]:
        """The conversation up to and with this output. With truncation, its oldest messages are left out where the model's
        `context` would not hold it and `left` tokens of an answer besides. Raises ApiError.
        """
        transcript = self.transcript.copy()
        for item in output:
            transcript.add(item)
        transcript.end()
        try:
            tokens = self._render(transcript.messages)
            most = context - (min(_ROOM, context // 4) if left is None else left)
            if self.body.truncation == "auto" and len(tokens) > most:
                return self._shortened(transcript.messages, most)
            return tokens
        except HarmonyError as error:
            raise invalid(str(error), transcript.param(error.field) or self._param(error.field)) from None

    def _param(self, field: str) -> str:
        """What the request calls a place in `render`'s arguments that is no message: there, `tools` are the functions alone."""
        name, _, rest = field.partition("]")
        if not name.startswith("tools["):
            return "tools"
        places = [tool.place for tool in self.offer.tools if tool.described]
        return f"tools[{places[int(name.removeprefix('tools['))]}]{rest.removeprefix('.function')}"

    def _shortened(self, messages: list[Message], most: int) -> list[int]:
        """As much of the conversation as fits, or the least of it that there can be."""
        places = cuts(messages)
        if not places:
            return self._render(messages)
        fits = bisect_left(places, True, key=lambda place: len(self._render(without(messages, place))) <= most)
        return self._render(without(messages, places[min(fits, len(places) - 1)]))

    def _render(self, messages: list[Message]) -> list[int]:
        offer = self.offer
        return render(messages, offer.described, self.effort, self.today, self.body.formats, namespaces=offer.namespaces)
