"""Analysis that has gone in circles: what is to be learned there is to end it. Knows samples, not tasks."""

import random
from dataclasses import replace

from ossia.common import vocabulary
from training.sample import Sample

SHARE = 0.05
"""Of the samples of a turn. Without them, a small model that has repeated itself for a while goes on with that for ever: its
heads that copy see nothing but reasons to."""
LENGTHS = (24, 160)  # of what goes in circles, tokens
PHRASES, WORDS = 3, 8  # that it is made of at most, and tokens of each
_OPENING = 4  # tokens behind an analysis whatever comes: <|end|><|start|>assistant<|channel|>


def looped(rng: random.Random, sample: Sample) -> Sample:
    """The sample broken off in its last analysis, phrases of which follow again and again; then it ends, and a message begins.

    What the circles cost is not counted, nor what the turn says behind them: it could only be guessed.
    """
    ends = [place for place, token in enumerate(sample.tokens) if token == vocabulary.END]
    begins = [place for place, token in enumerate(sample.tokens) if token == vocabulary.MESSAGE]
    end = ends[-1]
    begin = max(place for place in begins if place < end) + 1
    assert end < begins[-1], "behind the last analysis comes an answer or a call"
    cut = rng.randint(begin + 1, end)
    phrases = [_phrase(rng, sample.tokens[begin:cut]) for _ in range(rng.randint(1, PHRASES))]
    circles: list[int] = []
    length = rng.randint(*LENGTHS)
    while len(circles) < length:
        circles += rng.choice(phrases)
    rest = sample.tokens[end:]
    predicted = [*sample.predicted[:cut], *[False] * length, *[place < _OPENING for place in range(len(rest))]]
    return replace(sample, tokens=[*sample.tokens[:cut], *circles[:length], *rest], predicted=predicted)


def _phrase(rng: random.Random, tokens: list[int]) -> list[int]:
    end = rng.randint(1, len(tokens))
    return tokens[max(0, end - rng.randint(1, WORDS)) : end]
