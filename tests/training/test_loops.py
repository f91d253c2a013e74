"""Analysis in circles is shown, and only its end is learned."""

import random

import pytest

from ossia.common import vocabulary
from training.kinds import KINDS
from training.loops import LENGTHS, looped
from training.sample import sample


@pytest.mark.parametrize("kind", list(KINDS))
def test_circles_are_of_what_was_said_and_only_their_end_is_predicted(kind: str) -> None:
    for seed in range(20):
        rng = random.Random(seed)
        made = sample(KINDS[kind](rng, "train", "medium"))
        found = looped(rng, made)
        behind = len(made.tokens) - 1 - made.tokens[::-1].index(vocabulary.END)  # its analysis's end and what follows
        rest = made.tokens[behind:]
        assert found.tokens[-len(rest) :] == rest
        assert found.predicted[-len(rest) :] == [True] * 4 + [False] * (len(rest) - 4)
        same = next(place for place, told in enumerate(found.predicted) if told != made.predicted[place])
        circles = found.tokens[same : -len(rest)]
        assert found.tokens[:same] == made.tokens[:same]
        assert LENGTHS[0] <= len(circles) <= LENGTHS[1]
        assert not any(found.predicted[same : -len(rest)])
        assert set(circles) <= set(found.tokens[:same])
        assert found.prefix == made.prefix and found.kind == made.kind
