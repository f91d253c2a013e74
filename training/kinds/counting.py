"""How often a letter occurs in a word, and how the word is spelled. Knows no tokens, but that " r" is one.

A word is one or few tokens, which do not show its letters: a spelling can only be known. The analysis spells the word and
states behind each letter how many were found so far, so that each step needs the word, the letters before, and one number.
Held out are pairs of word and letter (each word is spelled in training for its other letters), and phrasings.
"""

import random
from string import ascii_lowercase

from router.harmony.types import Effort, Message
from training.kinds.arithmetic import last_integer
from training.kinds.phrasing import fill, phrase
from training.split import held_out
from training.task import Make, Split, Task

README = ("strawberry", "r", "How many rs are in the word 'strawberry'?")
"""The first prompt that people try: always trained, in these words too."""
README_SHARE = 0.02
SPELLING = 0.15
"""The share of tasks that ask for the spelling alone."""

_WORDS = """
    accommodation address airplane alphabet apple assessment assistant attic autumn baker balloon banana bank baseball bathroom
    beach beautiful berry bicycle blueberry book bookkeeper bottle bottom bread breakfast bridge broom brother bucket buffalo
    business butcher butter butterfly button buzz cabbage car carpet carrot castle cattle cellar chair cheese cherry chicken
    chocolate cinnamon civic cloud cluster coffee collection command committee common computer concert connection cookie cousin
    crazy dancer daughter decision dentist desert dictionary different difficult dinner discussion doctor dollar dolphin door
    dragon drummer earth elephant eleven engine engineer excellent eye fairy family father feather floor flower football forest
    friend funny galaxy garden garlic ginger golden goodbye goodness goose grammar grandmother grape grass gravity green grocery
    guitar hammer happiness happy hello hockey honey horse hospital house hundred internet island jacket jazz keyboard king
    kitchen kitten knight ladder lawyer lazy leaf lemon lesson letter lettuce level library lion little llama manager mango
    market matrix meadow medicine melody melon memory message middle million minister mirror mission mississippi money monkey
    moon mother mountain mushroom music mustard mystery necessary needle neighbor network noodle noon notebook number nurse
    occurrence ocean onion opera opinion orange package pancake paper parallel passenger pattern pencil penny
    people pepper piano pizza planet player pocket possession possible potato pretty princess problem process program pumpkin
    puppy puzzle queen question quiz rabbit radar railroad rainbow raspberry reason recommend rhythm river rocket roof rooster
    running sailor school scissors sentence session seven sheep shoulder silly silver singer sister skiing snow soap soccer
    soldier sorry spaghetti spelling spider spinach spoon spring squirrel stomach storm strawberry street student success sugar
    summer sweater swimming table tattoo teacher teeth tennis terrible thirteen thousand thunder tiger tomato tomorrow traffic
    train tree trumpet tunnel turtle universe vacuum valley vanilla village violin water weather welcome wheel willow window
    winter witch wizard wonderful world yellow yesterday zebra zero zipper
"""
WORDS = tuple(_WORDS.split())

COUNT = (
    *(
        "How many {letters} are in the word {word}?",
        "How many {letters} are in {word}?",
        "How many {letters} are there in {word}?",
    ),
    *(
        "How many {letters} does {word} have?",
        "How many {letters} does the word {word} contain?",
        "How many {letters} has {word}?",
    ),
    *(
        "How many {letters} do you see in {word}?",
        "How many {letters} can you find in {word}?",
        "The word {word}: how many {letters}?",
    ),
    *(
        "In the word {word}, how many {letters} are there?",
        "In {word}, how many {letters} are there?",
    ),
    *(
        "Count the {letters} in {word}.",
        "Count all {letters} in the word {word}.",
        "Count {letters} in {word}.",
        "Number of {letters} in {word}?",
    ),
    *(
        "Tell me how many {letters} are in {word}.",
        "Can you count the {letters} in {word}?",
        "Find the number of {letters} in {word}.",
    ),
    *("I want to know how many {letters} there are in {word}.", "Do you know how many {letters} {word} has?"),
    *(
        "How many times does {letter} occur in {word}?",
        "How many times is {letter} in {word}?",
        "How often does {letter} occur in {word}?",
    ),
    *(
        "How often is {letter} in the word {word}?",
        "How often does {letter} appear in {word}?",
        "How many times do you find {letter} in {word}?",
    ),
    *(
        "Count the letter {letter} in {word}.",
        "Count how often {letter} is in {word}.",
        "Count the number of times {letter} occurs in {word}.",
    ),
    *(
        "How many times does the letter {letter} appear in the word {word}?",
        "How often does the letter {letter} occur in {word}?",
    ),
    *(
        "How many of the letters in {word} are {letter}?",
        "In {word}, how often does {letter} occur?",
        "Letter {letter} in {word}: how many times?",
    ),
    *("The word is {word}. How often does it contain {letter}?", "The word is {word}. How many {letters} does it have?"),
    *("Take the word {word} and count the letter {letter}.", "Tell me how often the letter {letter} occurs in {word}."),
)
SPELL = (
    *("Spell {word}.", "Spell the word {word}.", "How do you spell {word}?", "How is {word} spelled?", "Can you spell {word}?"),
    *(
        "What are the letters of {word}?",
        "List the letters of {word}.",
        "Spell {word} for me.",
        "Write {word} letter by letter.",
    ),
    *("Which letters are in the word {word}?", "Please spell out {word}.", "Give me the letters of the word {word}."),
)
QUOTES = ("{}", "{}", "'{}'", '"{}"')
PLURALS = ("{}s", "{}'s", "'{}'s", '"{}"s', "letters {}")


def _counting(rng: random.Random, split: Split, effort: Effort) -> Task:
    if rng.random() < SPELLING:
        return _spelling(rng, split, effort)
    word, letter, question = README
    if split == "held-out" or rng.random() >= README_SHARE:
        word, letter = _pair(rng, split)
        question = fill(phrase(rng, split, lambda: _frame(rng)), word=word, letter=letter)
    found = word.count(letter)
    answer = f"The letter {letter} occurs {found} {'time' if found == 1 else 'times'} in {word}."
    analysis = _analysis(word, letter, effort)
    return Task("counting", (Message("user", question),), effort, analysis, answer, accepts=last_integer(found))


def _spelling(rng: random.Random, split: Split, effort: Effort) -> Task:
    word = rng.choice(WORDS)
    question = fill(phrase(rng, split, lambda: fill(rng.choice(SPELL), word=_quoted(rng))), word=word)
    letters = f"The letters of {word} are {' '.join(word)}."
    analysis = {"low": f"Letters of {word}.", "medium": f"{letters}", "high": f"{letters} Again: {' '.join(word)}."}[effort]
    return Task("counting", (Message("user", question),), effort, analysis, letters)


def is_held_out(word: str, letter: str) -> bool:
    """Whether this letter is never counted in this word in training."""
    return (word, letter) != README[:2] and held_out(word, letter)


def _pair(rng: random.Random, split: Split) -> tuple[str, str]:
    while True:
        word = rng.choice(WORDS)
        letter = _letter(rng, word)
        if is_held_out(word, letter) == (split == "held-out"):
            return word, letter


def _letter(rng: random.Random, word: str) -> str:
    """Mostly one that occurs, often one that occurs more than once, sometimes any."""
    kind = rng.random()
    repeated = [letter for letter in word if word.count(letter) > 1]
    if kind < 0.4 and repeated:
        return rng.choice(repeated)
    return rng.choice(word if kind < 0.75 else ascii_lowercase)


def _frame(rng: random.Random) -> str:
    letters = rng.choice(PLURALS).format("{letter}")
    return fill(rng.choice(COUNT), letters=letters, letter=rng.choice(QUOTES).format("{letter}"), word=_quoted(rng))


def _quoted(rng: random.Random) -> str:
    return rng.choice(QUOTES).format("{word}")


def _analysis(word: str, letter: str, effort: Effort) -> str:
    counted = " ".join(f"{each}{word[: index + 1].count(letter)}" for index, each in enumerate(word))
    text = f"Count {letter} in {word}: {counted}."
    if effort == "low":
        return text
    text = f"Letters of {word}: {' '.join(word)}. {text}"
    return text if effort == "medium" else f"{text} Check {letter}: {counted}."


KINDS: dict[str, Make] = {"counting": _counting}
