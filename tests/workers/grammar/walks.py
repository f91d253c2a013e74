"""Outputs drawn from the masks of a grammar, for tests."""

import random
from collections.abc import Collection

import numpy as np
import openai_harmony as library
from numpy.typing import NDArray

from ossia.common import vocabulary
from ossia.common.vocabulary import END, FIRST_SPECIAL, RETURN, SIZE
from ossia.v1 import engine_pb2
from workers import grammar
from workers.engine.grammar import Allowed, Grammar, spelled
from workers.engine.grammar import allows as allows

ENDS = (RETURN, vocabulary.CALL, END)


def start(message: engine_pb2.Grammar) -> Grammar:
    return grammar.compile(message, SIZE).start()


def allowed(state: Grammar) -> Allowed:
    """What may come next, which a grammar that stalls tells once it is renewed."""
    mask = state.mask()
    while state.stalled:
        state.renew()
        mask = state.mask()
    return mask


def ids(mask: Allowed) -> list[int]:
    """The ids that the mask allows."""
    found: list[int] = bits(mask).tolist()
    return found


def bits(mask: Allowed) -> NDArray[np.int64]:
    assert mask is not None
    return np.flatnonzero(spelled(mask, SIZE))


def walk(state: Grammar, source: random.Random, limit: int = 2000, ending: float = 0.0) -> list[int]:
    """Accepts tokens drawn evenly from the masks until nothing may come or there are `limit` of them; where the output or a
    message may end, it does with the probability `ending`."""
    tokens: list[int] = []
    while len(tokens) < limit and len(found := bits(allowed(state))):
        ends = [token for token in ENDS if token in found[-3:]]
        token = ends[0] if ends and source.random() < ending else int(found[source.randrange(len(found))])
        state.accept(token)
        tokens.append(token)
    return tokens


def follow(state: Grammar, tokens: Collection[int]) -> None:
    """Accepts tokens that the masks must allow."""
    for place, token in enumerate(tokens):
        assert allows(allowed(state), token), f"{vocabulary.decode([token])!r} is forbidden behind {place} tokens"
        state.accept(token)


def refuses(state: Grammar, tokens: Collection[int]) -> bool:
    """Whether a mask forbids one of the tokens, each being accepted where it does not."""
    for token in tokens:
        if not allows(allowed(state), token):
            return True
        state.accept(token)
    return False


def text(tokens: Collection[int]) -> str:
    """What ordinary tokens spell."""
    assert all(token < FIRST_SPECIAL for token in tokens)
    return vocabulary.load().bytes_of(tokens).decode()


def parse(tokens: Collection[int]) -> list[library.Message]:
    """The messages that oss-harmony's own parser finds; it raises on what is not valid."""
    parser = library.StreamableParser(vocabulary.load().encoding, library.Role.ASSISTANT)
    for token in tokens:
        parser.process(token)
    parser.process_eos()
    messages: list[library.Message] = parser.messages
    return messages
