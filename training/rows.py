"""Which ids have a row of their own in ossia-tiny's vocabulary-sized matrices; all others share one."""

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Set
from datetime import date
from itertools import compress

from ossia.common import vocabulary
from training import drills, words
from training.kinds import KINDS
from training.sample import sample
from training.task import EFFORTS, Split

COUNT = 6000
STALE = 500
"""The tokens of a kind are known when so many tasks in a row have said no new one."""
SEEN = 3
"""In so many tasks a token must occur to be told from others, where none says it."""
SPECIAL = (
    vocabulary.STARTOFTEXT,
    vocabulary.ENDOFTEXT,
    vocabulary.RETURN,
    vocabulary.CONSTRAIN,
    vocabulary.CHANNEL,
    vocabulary.START,
    vocabulary.END,
    vocabulary.MESSAGE,
    vocabulary.CALL,
)
SPLITS: tuple[Split, ...] = ("train", "held-out")


def distinct() -> tuple[int, ...]:
    """The ids with a row of their own, ascending: what tasks and drills use, and up to `COUNT` the most frequent in English.

    Foreign ones are taken out at last, so that there may be a few less. More where tasks use more. Takes half a minute.
    """
    chosen = {*SPECIAL, *_basic(), *_words(), *_drills()}
    chosen |= _tasks(chosen)
    for token in _frequent():
        if len(chosen) >= COUNT:
            break
        chosen.add(token)
    return tuple(sorted(token for token in chosen if not words.is_foreign(token)))


def coverage(ids: Collection[int], text: str) -> float:
    """The share of the text's tokens that have a row of their own."""
    own, tokens = frozenset(ids), vocabulary.encode(text)
    return sum(token in own for token in tokens) / len(tokens)


def prose() -> str:
    """A sample of real English: the prose of the reference manual that comes with Python (under its licence, free), of which no
    word was looked at when rows were chosen. More technical than everyday text, so it covers less."""
    from pydoc_data.topics import topics

    paragraphs = [paragraph for name in sorted(topics) for paragraph in topics[name].split("\n\n")]
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if _is_prose(paragraph))


def _is_prose(paragraph: str) -> bool:
    """Whether this is a sentence or more, and neither code, a table nor a heading."""
    plain = sum(character.isalpha() or character in " \n,.'" for character in paragraph)
    return paragraph[:1].isupper() and paragraph.endswith(".") and plain > 0.98 * len(paragraph) > 60


def _basic() -> Iterator[int]:
    """ASCII's characters, numbers of one token, single letters."""
    for text in (*map(chr, range(128)), *map(str, range(1000)), *words.LETTERS, *map(str.upper, words.LETTERS)):
        yield from vocabulary.encode(text)


def _words() -> Iterator[int]:
    """What invented and ordinary words are made of."""
    pieces, tokens = words.pieces(), words.tokens()
    for start in (*pieces.capitals, *pieces.small, *words.VERBS, *words.COMMON):
        yield from (tokens[start], tokens[" " + start])
    yield from (tokens["." + verb] for verb in words.VERBS)
    yield from (tokens["_" + piece] for piece in (*pieces.underscored, *words.THINGS))
    yield from (tokens[piece] for piece in pieces.rest)


def _drills() -> Iterator[int]:
    for text in (*drills.MARKS, *drills.CALL, *(part for frame in drills.FRAMES for part in frame[:3])):
        yield from vocabulary.encode(text)


def _tasks(chosen: Set[int]) -> set[int]:
    """What tasks say beyond what is chosen, and what they are often asked with."""
    said, seen = set(chosen), Counter[int]()
    for kind, make in KINDS.items():
        rng, stale = random.Random(kind), 0
        while stale < STALE:
            today = date.fromordinal(rng.randint(738_000, 745_000))
            task = sample(make(rng, rng.choice(SPLITS), rng.choice(EFFORTS)), today)
            new = set(compress(task.tokens, task.predicted)) - said
            stale = 0 if new else stale + 1
            said |= new
            seen.update(set(task.tokens))
    return said | {token for token, count in seen.items() if count >= SEEN}


def _frequent() -> Iterator[int]:
    """The tokens of English words, from the most frequent; a word starts lower-case behind a space most often."""
    counted: dict[int, float] = defaultdict(float)
    for word, share in words.english().items():
        for form, part in ((" " + word, 1.0), (word, 0.05), (" " + word.capitalize(), 0.05), (word.capitalize(), 0.05)):
            for token in vocabulary.encode(form):
                counted[token] += share * part
    return iter(sorted(counted, key=lambda token: -counted[token]))
