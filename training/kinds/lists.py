"""Lists said again, and lists in reverse. Knows no tokens.

To reverse, the analysis gives each item a letter and then reads the letters backwards: each item follows its letter, so that
every step is a copy. Commas stand only between items in their first order; that tells the two apart. Held out are invented
words, whole lists, and phrasings.
"""

import random
from collections.abc import Callable, Sequence
from string import ascii_uppercase

from router.harmony.types import Effort, Message
from training import words
from training.kinds.phrasing import fill, phrase
from training.split import draw
from training.task import Make, Split, Task

REPEAT = (
    *("Repeat: {items}.", "Repeat after me: {items}.", "Say after me: {items}.", "Say: {items}.", "Repeat this list: {items}."),
    *(
        "Repeat these words: {items}.",
        "Repeat the following: {items}.",
        "Repeat exactly: {items}.",
        "Echo: {items}.",
        "Copy: {items}.",
    ),
    *("Copy this list: {items}.", "Write this again: {items}.", "Say the following: {items}.", "Can you repeat {items}?"),
    *(
        "Can you say {items}?",
        "Give me back the list {items}.",
        "Repeat the list {items} in the same order.",
        "Say this back to me: {items}.",
    ),
    *(
        "Repeat what I say: {items}.",
        "Write down: {items}.",
        "Here is a list: {items}. Repeat it.",
        "This is my list: {items}. Say it again.",
    ),
    *(
        "I say {items}. You say?",
        "{items}. Repeat that.",
        "Print this: {items}.",
        "Answer with just this: {items}.",
        "Just say {items}.",
    ),
)
REVERSE = (
    *(
        "Reverse the list {items}.",
        "Reverse: {items}.",
        "Reverse this list: {items}.",
        "Reverse the order of {items}.",
        "Reverse {items}.",
    ),
    *(
        "Write this list backwards: {items}.",
        "Give me {items} in reverse order.",
        "Say {items} in reverse order.",
        "Say this backwards: {items}.",
    ),
    *("List these from last to first: {items}.", "Turn this list around: {items}.", "What is {items} in reverse order?"),
    *("What is the reverse of the list {items}?", "Put {items} in reverse order.", "Repeat this in reverse order: {items}."),
    *("Here is a list: {items}. Reverse it.", "This is my list: {items}. Say it backwards.", "{items}. Now reverse that."),
    *("Can you reverse {items}?", "Can you say {items} backwards?", "Repeat backwards: {items}.", "In reverse order: {items}."),
    *("Start with the last: {items}.", "Read this list from the end: {items}.", "Write {items} from the last to the first."),
)
SEPARATORS = (", ", ", ", ", ", " ")
"""Between items to repeat."""
LONGEST_REPEAT, LONGEST_REVERSE = 6, 5

INVENTED: tuple[Callable[[random.Random, Split], str], ...] = (words.name, words.noun)
KNOWN: tuple[Callable[[random.Random], str], ...] = (words.common, lambda rng: str(rng.randint(0, 999)))
LONGEST_INVENTED = 4
"""Invented words are several tokens each."""


def _repeat(rng: random.Random, split: Split, effort: Effort) -> Task:
    items = rng.choice(SEPARATORS).join(_items(rng, split, LONGEST_REPEAT))
    question = fill(phrase(rng, split, REPEAT), items=items)
    analysis = {"low": "Copy it.", "medium": f"Copy it: {items}.", "high": f"Copy it: {items}. Again: {items}."}[effort]
    return _task("repeat", question, effort, analysis, items)


def _reverse(rng: random.Random, split: Split, effort: Effort) -> Task:
    items = _items(rng, split, LONGEST_REVERSE)
    question = fill(phrase(rng, split, REVERSE), items=", ".join(items))
    return _task("reverse", question, effort, _analysis(items, effort), ", ".join(reversed(items)))


def _task(kind: str, question: str, effort: Effort, analysis: str, answer: str) -> Task:
    def accepts(text: str) -> bool:
        return text.strip().removesuffix(".") == answer

    return Task(kind, (Message("user", question),), effort, analysis, answer, accepts=accepts)


def _items(rng: random.Random, split: Split, longest: int) -> tuple[str, ...]:
    """Two or more, all different, all of one sort."""
    if rng.random() < 0.5:
        invent = rng.choice(INVENTED)
        return _different(rng, LONGEST_INVENTED, lambda: invent(rng, split))
    known = rng.choice(KNOWN)
    return draw(split, lambda: _different(rng, longest, lambda: known(rng)))


def _different(rng: random.Random, longest: int, make: Callable[[], str]) -> tuple[str, ...]:
    size = rng.randint(2, longest)
    items: dict[str, None] = {}
    while len(items) < size:
        items[make()] = None
    return tuple(items)


def _analysis(items: Sequence[str], effort: Effort) -> str:
    """`A apple, B tree, C stone` and then `C stone B tree A apple`."""
    lettered = [f"{letter} {item}" for letter, item in zip(ascii_uppercase, items, strict=False)]
    there, back = ", ".join(lettered), " ".join(reversed(lettered))
    if effort == "low":
        return f"List: {there}. Back: {back}."
    text = f"Each item gets a letter. List: {there}. Now from the last to the first. Back: {back}."
    return text if effort == "medium" else f"{text} Check. List: {there}. Back: {back}."


KINDS: dict[str, Make] = {"repeat": _repeat, "reverse": _reverse}
