"""Drafts that cost no second model: what the grammar leaves no choice in, and what followed the same tokens before."""

from dataclasses import dataclass

import numpy as np

from workers.engine.grammar import Allowed, Below, Later, allows, coming
from workers.engine.ints import Array
from workers.engine.request import Request

SHORTEST, LONGEST = 3, 8  # tokens of the suffix that is looked for


@dataclass(frozen=True)
class Drafts:
    """Tokens that may come next, and the masks of what may come in the place of each of them and behind the last."""

    tokens: tuple[int, ...] = ()
    masks: tuple[Allowed | Later, ...] = ()
    looked_up: bool = False

    def first(self, count: int) -> "Drafts":
        return Drafts(self.tokens[:count], self.masks[: count + 1], self.looked_up)


NO_DRAFTS = Drafts()


def draft(request: Request, limit: int, look_up: bool) -> Drafts:
    """At most `limit` drafts for a request of which a token is to be decoded; `look_up` allows those that may be wrong."""
    if limit <= 0:
        return NO_DRAFTS
    if request.grammar is not None and (forced := request.grammar.forced(limit)):
        return _drafts(request, forced, looked_up=False)
    count = min(limit, request.pace.drafts(len(request.output))) if look_up else 0
    return _drafts(request, lookup(request.tokens.array, count), looked_up=True) if count else NO_DRAFTS


def lookup(tokens: Array, count: int) -> list[int]:
    """What came after the last earlier place of the longest suffix that has one, over and over where that is the end itself.

    A scan of all tokens rather than an index of them: it takes microseconds, even over the longest context, and no memory.
    """
    ends = np.flatnonzero(tokens[:-1] == tokens[-1])
    length = 1
    while length < LONGEST:
        longer = ends[ends >= length]
        longer = longer[tokens[longer - length] == tokens[-1 - length]] if length < len(tokens) else longer[:0]
        if not len(longer):
            break
        ends, length = longer, length + 1
    if length < SHORTEST or not len(ends):
        return []
    found: list[int] = np.resize(tokens[ends[-1] + 1 :], count).tolist()
    return found


def _drafts(request: Request, tokens: list[int], looked_up: bool) -> Drafts:
    """As many of the tokens as come before a stop or a repetition, behind which nothing does, and as the grammar allows.

    At most one mask is computed, which may take as long as a step: that of a forced token is known, and nothing is looked up
    where a mask says what may come.
    """
    grammar, allowed = request.grammar, request.mask if looked_up else Below(0, tokens[0])
    if request.repetition is not None:
        tokens = tokens[: request.repetition.before(request.output, tokens)]
    masks = [allowed]
    for index, token in enumerate(tokens, 1):
        if isinstance(allowed, np.ndarray | Later) or token in request.stops or not allows(allowed, token):
            break
        if grammar is not None:
            grammar.accept(token)
            allowed = coming(grammar, tokens[:index]) if looked_up or index == len(tokens) else Below(0, tokens[index])
        masks.append(allowed)
    if grammar is not None:
        grammar.rollback(len(masks) - 1)
    return Drafts(tuple(tokens[: len(masks) - 1]), tuple(masks), looked_up)
