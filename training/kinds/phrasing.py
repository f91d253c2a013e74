"""One sentence in many manners, as people type it. Which frame goes with which manner is split."""

import random
from collections.abc import Callable, Sequence

from training.split import draw
from training.task import Split

OPENERS = (
    *("Hi, ", "Hello! ", "Hey, ", "Hey! ", "Hi there. ", "Good day. ", "So, ", "Well, ", "Okay. ", "OK, ", "Now, ", "Next: "),
    *("Please: ", "One question: ", "Quick question: ", "A question. ", "Tell me: ", "Listen. ", "And ", "Then ", "Thanks. "),
)
CLOSERS = (" Please.", " Thanks.", " Thank you!", " Now.", " I am curious.", " Be quick.", " Do it well.", " please")


def either(text: str) -> tuple[str, ...]:
    """The alternatives of a text, between which stand bars or line ends."""
    return tuple(part.strip() for line in text.strip().splitlines() for part in line.split("|"))


def phrase(
    rng: random.Random,
    split: Split,
    frames: Sequence[str] | Callable[[], str],
    openers: Sequence[str] = OPENERS,
    closers: Sequence[str] = CLOSERS,
) -> str:
    """One of the frames, with its places (`{value}`) still to fill, in one of many manners. Frame and manner are split."""
    frame = frames if callable(frames) else lambda: rng.choice(frames)
    return draw(split, lambda: _manner(rng, frame(), openers, closers))


def fill(frame: str, **values: str) -> str:
    """The frame with values in its places; other braces stay, so that JSON may be around."""
    for place, value in values.items():
        frame = frame.replace(f"{{{place}}}", value)
    return frame


def listed(words: Sequence[str]) -> str:
    """ "a", "a and b" or "a, b and c"."""
    *head, last = words
    return f"{', '.join(head)} and {last}" if head else last


def _behind(opener: str, frame: str) -> str:
    """The frame goes on behind a comma in lower case, except with a word that is always written with a capital."""
    goes_on = opener.endswith(", ") and not frame.startswith(("I ", "I'"))
    return opener + (frame[:1].lower() + frame[1:] if goes_on else frame)


def _manner(rng: random.Random, frame: str, openers: Sequence[str], closers: Sequence[str]) -> str:
    if openers and rng.random() < 0.25:
        frame = _behind(rng.choice(openers), frame)
    if closers and rng.random() < 0.15:
        frame = frame + rng.choice(closers)
    elif rng.random() < 0.2:
        frame = frame.rstrip("?.!")
    return frame.lower() if rng.random() < 0.2 else frame
