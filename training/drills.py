"""Drills of copying: meaningless text whose later part follows from its earlier part alone.

They teach what every task needs (repeating, looking up, turning round, the token of a word's start behind a space, in quotes
or behind a dot) and show each id with a row of its own both in what is given and in what is to be said.
"""

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from ossia.common import vocabulary
from training import words
from training.sample import Sample

LENGTH = 100, 250
"""A drill goes on until it has about so many tokens; which number between the two is drawn for each."""

MARKS = (",", ".", ":", ";", "\n", "\n\n", " =", " ->", " is", " and", " to", " |", "?", "!", " (", ")", '"', "'", "`", " -")
FRAMES = (
    ("", " is", ".", " "),
    ("", ":", "\n", " "),
    (" the", " =", ";", " "),
    (",", " ->", "", " "),
    ('"', '":"', '",', ""),
    ("\n", ":", ",", ""),
    ("", "='", "'\n", ""),
)
"""How a key and its value are said: what is before, between and behind them, and whether a space starts each."""
CALL = (" to", "=", "functions", " ")
"""Before a key, behind it, before a function, which a dot starts, and behind it."""


@dataclass(frozen=True)
class Forms:
    """The ids to copy. Words start with another token behind a space than elsewhere; verbs with a third behind a dot."""

    all: tuple[int, ...]
    starts: tuple[tuple[int, int], ...]
    verbs: tuple[tuple[int, int], ...]
    nouns: tuple[int, ...]
    rest: tuple[int, ...]
    space: int
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Item:
    """Something copied, behind a space and elsewhere (for a function: behind a dot)."""

    spaced: list[int]
    bare: list[int]


@dataclass
class Page:
    """A drill being written."""

    tokens: list[int] = field(default_factory=list)
    predicted: list[bool] = field(default_factory=list)

    def add(self, tokens: Sequence[int], predicted: bool = False) -> None:
        self.tokens.extend(tokens)
        self.predicted.extend([predicted] * len(tokens))


def drill(rng: random.Random, ids: Sequence[int]) -> Sample:
    """One drill of the ids (ascending; those of `rows.distinct`). Predicted is what is certain; there is no prefix."""
    forms, page = _forms(tuple(ids)), Page()
    write = rng.choices((_repeat, _look_up, _call, _turn_round), (40, 36, 12, 12))[0]
    length = rng.randint(*LENGTH)
    while len(page.tokens) < length:
        write(rng, forms, page)
    return Sample(page.tokens, page.predicted, 0, "drill")


def _repeat(rng: random.Random, forms: Forms, page: Page) -> None:
    """Some segments, and then, in any order, each of them again from some place on."""
    make, count = rng.choice((_any, _any, _phrase)), rng.choice((1, 1, 2, 3))
    segments = [make(rng, forms, rng.randint(8, 40 if count == 1 else 20)) for _ in range(count)]
    between = _mark(rng)
    for segment in segments:
        page.add(segment + between)
    for segment in rng.sample(segments, len(segments)) * rng.choice((1, 1, 2)):
        begin = 0 if rng.random() < 0.6 else rng.randrange(len(segment) - 4)
        page.add(segment[begin : begin + 1])
        page.add(segment[begin + 1 :] + between, True)


def _look_up(rng: random.Random, forms: Forms, page: Page) -> None:
    """Keys with values, and then some of them again, often said in another way; in the same order, keys are predicted too."""
    count = rng.randint(2, 9)
    keys, values = _items(rng, forms, count), _items(rng, forms, count)
    given, asked = rng.choice(_frames()), rng.choice(_frames())
    page.add(_any(rng, forms, rng.randint(0, 6)))
    for key, value in zip(keys, values, strict=True):
        page.add([*given[0], *_form(key, given[3]), *given[1], *_form(value, given[3]), *given[2]])
    page.add(_mark(rng))
    ordered = rng.random() < 0.4
    order = range(count) if ordered else rng.choices(range(count), k=count)
    for place, index in enumerate(order):
        page.add([*asked[0], *_form(keys[index], asked[3])], ordered and place > 0)
        page.add([*asked[1], *_form(values[index], asked[3]), *asked[2]], True)


def _call(rng: random.Random, forms: Forms, page: Page) -> None:
    """Keys with functions, and then the functions as they are called."""
    count = rng.randint(2, 5)
    keys, functions = _items(rng, forms, count), [_function(rng, forms) for _ in range(count)]
    given = rng.choice(_frames())
    to, equals, called, behind = (_tokens(text) for text in CALL)
    for key, function in zip(keys, functions, strict=True):
        page.add([*given[0], *_form(key, given[3]), *given[1], *function.spaced, *given[2]])
    page.add(_mark(rng))
    for index in rng.choices(range(count), k=count):
        page.add([*to, *keys[index].spaced, *equals, *called])
        page.add([*functions[index].bare, *behind], True)


def _turn_round(rng: random.Random, forms: Forms, page: Page) -> None:
    """A list and the same list backwards."""
    items = _items(rng, forms, rng.randint(2, 7), longest=rng.choice((0, 0, 2)))
    between, behind = _mark(rng), _mark(rng)
    for item in items:
        page.add([*item.spaced, *between])
    page.add(behind)
    for item in reversed(items):
        page.add([*item.spaced, *between], True)


def _any(rng: random.Random, forms: Forms, count: int) -> list[int]:
    return rng.choices(forms.all, k=count)


def _phrase(rng: random.Random, forms: Forms, least: int) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < least:
        tokens += _item(rng, forms, 2).spaced
    return tokens


def _items(rng: random.Random, forms: Forms, count: int, longest: int = 2) -> list[Item]:
    """Items that differ in how they start."""
    items: dict[int, Item] = {}
    while len(items) < count:
        item = _item(rng, forms, longest)
        items[item.bare[0]] = item
    return list(items.values())


def _item(rng: random.Random, forms: Forms, longest: int) -> Item:
    if rng.random() < 0.15:
        number = rng.choice(forms.numbers)
        return Item([forms.space, number], [number])
    spaced, bare = rng.choice(forms.starts)
    rest = rng.choices(forms.rest, k=rng.randint(0, longest))
    return Item([spaced, *rest], [bare, *rest])


def _function(rng: random.Random, forms: Forms) -> Item:
    (spaced, dotted), noun = rng.choice(forms.verbs), rng.choice(forms.nouns)
    rest = rng.choices(forms.rest, k=rng.randint(0, 2))
    return Item([spaced, noun, *rest], [dotted, noun, *rest])


def _form(item: Item, spaced: bool) -> list[int]:
    return item.spaced if spaced else item.bare


def _mark(rng: random.Random) -> list[int]:
    return _tokens(rng.choice(MARKS))


@functools.cache
def _tokens(text: str) -> list[int]:
    return vocabulary.encode(text)


@functools.cache
def _frames() -> tuple[tuple[list[int], list[int], list[int], bool], ...]:
    return tuple(
        (_tokens(before), _tokens(between), _tokens(behind), space == " ") for before, between, behind, space in FRAMES
    )


@functools.cache
def _forms(ids: tuple[int, ...]) -> Forms:
    tokens, known = words.tokens(), frozenset(ids)
    plain = tuple(token for token in ids if token < vocabulary.FIRST_SPECIAL)
    bare = {text: token for text, token in tokens.items() if text.isalpha() and token in known}
    spaced = {text: tokens[" " + text] for text in bare if tokens.get(" " + text) in known}
    return Forms(
        all=plain,
        starts=tuple((token, bare[text]) for text, token in spaced.items()),
        verbs=tuple(
            (spaced[verb], tokens["." + verb]) for verb in words.VERBS if verb in spaced and tokens["." + verb] in known
        ),
        nouns=tuple(token for text, token in tokens.items() if text[0] == "_" and token in known),
        rest=tuple(token for text, token in bare.items() if text.islower()),
        space=vocabulary.encode(" ")[0],
        numbers=tuple(token for token in (vocabulary.encode(str(number))[0] for number in range(1000)) if token in known),
    )
