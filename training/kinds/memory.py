"""Remembering what the user told in an earlier turn, and saying so when nothing was told.

Split are the values (invented names), and the phrasings of statement and question.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from router.harmony.types import Effort, Message
from training import words
from training.kinds.phrasing import either, fill, phrase
from training.kinds.talk import OPENERS, SMALL_TALK, exchange, thoughts
from training.task import Make, Split, Task

TELLING, UNTOLD, TWO_FACTS, AT_ONCE = 0.2, 0.1, 0.25, 0.08
"""The shares of tasks that are the turn of telling itself, that ask what was never told, in which two facts are told, and of
questions that stand in one turn with what they ask for."""
NAMES, INVENTED = 0.3, 0.1
"""The shares of facts that are the user's name, and that are of something invented: "My brimlo is Zorvex." """

_COLORS = either("red | green | blue | yellow | white | black | brown | pink | purple | orange | gray | gold | silver")


Value = Callable[[random.Random, Split], str]


@dataclass(frozen=True)
class Fact:
    """What can be told of the user: `key` as in "Your {key} is ...", how it is told, how it is asked for."""

    key: str
    told: tuple[str, ...]
    asked: tuple[str, ...]
    value: Value = words.name


_TOLD = either(
    """
    My {key} is {value}. | My {key} is {value}. | Remember: my {key} is {value}. | Remember that my {key} is {value}.
    {value} is my {key}. | Note that my {key} is {value}. | Do not forget that my {key} is {value}.
    """
)

_ASKED = either(
    """
    What is my {key}? | What's my {key}? | Tell me my {key}. | Do you remember my {key}? | Do you know my {key}?
    What was my {key}? | Can you tell me my {key}? | Say my {key}. | What did I say my {key} is? | And my {key}?
    What did I tell you about my {key}? | My {key}? | Do you still know my {key}? | Repeat my {key}.
    """
)
_NAME = Fact(
    "name",
    either(
        """
        My name is {value}. | My name is {value}! | I am {value}. | I'm {value}. | Call me {value}. | The name is {value}.
        You can call me {value}. | People call me {value}. | I am called {value}. | {value} is my name. | My name's {value}.
        This is {value}. | This is {value} speaking. | {value} here. | Here is {value}. | They call me {value}.
        """
    ),
    either(
        """
        Who am I? | What am I called? | How am I called? | Do you know who I am? | Do you remember me? | Say who I am.
        What should you call me? | What is my name? | What was my name again? | What is my name again? | Who is talking?
        """
    )
    + _ASKED,
)


def _named(who: str) -> Fact:
    told = """
        My {who} is called {value}. | I have a {who} called {value}. | I have a {who} named {value}. | My {who} is {value}.
        My {who}'s name is {value}. | The name of my {who} is {value}. | My {who} has the name {value}.
        """
    asked = """
        What is my {who} called? | How is my {who} called? | What is my {who}'s name? | Who is my {who}?
        What is the name of my {who}? | Do you remember my {who}? | Do you know what my {who} is called?
        """
    return Fact(f"{who}'s name", either(fill(told, who=who)), either(fill(asked, who=who)) + _ASKED)


def _favorite(what: str, value: Value = words.name) -> Fact:
    told = "The {what} I like best is {value}. | I like the {what} {value} most."
    asked = "Which {what} do I like best? | What {what} do I like most? | Which {what} is my favorite?"
    return Fact(f"favorite {what}", either(fill(told, what=what)) + _TOLD, either(fill(asked, what=what)) + _ASKED, value)


def _number(rng: random.Random, split: Split) -> str:
    return str(rng.randrange(2, 1000))


def _common(rng: random.Random, split: Split) -> str:
    return words.common(rng)


def _color(rng: random.Random, split: Split) -> str:
    return rng.choice(_COLORS)


_CITY = Fact(
    "city",
    ("I live in {value}.", "I come from {value}.", "I am from {value}.", "My home is {value}.", *_TOLD),
    ("Where do I live?", "Where am I from?", "Which city do I live in?", "Where is my home?", "Where do I come from?", *_ASKED),
)
_AGE = Fact(
    "age",
    ("I am {value} years old.", "I'm {value} years old.", "My age is {value}.", "I turned {value} today.", *_TOLD),
    ("How old am I?", "Do you know how old I am?", "How many years old am I?", "Tell me how old I am.", *_ASKED),
    lambda rng, split: str(rng.randrange(5, 100)),
)
_FACTS = (
    *(
        _named(who)
        for who in either("cat | dog | horse | bird | sister | brother | friend | teacher | boss | wife | son | boat")
    ),
    *(_favorite(what, _common) for what in either("food | animal | thing | word | drink")),
    *(_favorite(what) for what in either("book | song | game | team | artist")),
    _favorite("color", _color),
    _favorite("number", _number),
    *(Fact(key, _TOLD, _ASKED, _number) for key in either("lucky number | room number | secret number | score")),
    *(Fact(key, _TOLD, _ASKED, words.noun) for key in either("password | secret word | code word")),
)


@dataclass(frozen=True)
class Known:
    """A fact of this user."""

    fact: Fact
    value: str

    @property
    def thought(self) -> str:
        return f"The user's {self.fact.key} is {self.value}."

    @property
    def answer(self) -> str:
        return f"Your {self.fact.key} is {self.value}."

    @property
    def acknowledgement(self) -> str:
        if self.fact is _NAME:
            return f"Nice to meet you, {self.value}."
        return f"I will remember that your {self.fact.key} is {self.value}."


def memory(rng: random.Random, split: Split, effort: Effort) -> Task:
    """A fact told in an earlier turn is asked for; or the turn of telling; or a fact that was never told."""
    chance = rng.random()
    known = _known(rng, split, 2 if rng.random() < TWO_FACTS else 1)
    if chance < TELLING:
        return _telling(rng, split, effort, known)
    if chance < TELLING + UNTOLD:
        return _untold(rng, split, effort, known)
    return _recall(rng, split, effort, known)


def _recall(rng: random.Random, split: Split, effort: Effort, known: list[Known]) -> Task:
    wanted = rng.choice(known)
    messages = (*_history(rng, split, known), _question(rng, split, wanted.fact))
    if rng.random() < AT_ONCE:
        told, _ = _exchange(rng, split, known)
        messages = (replace(told, content=f"{told.content} {messages[-1].content}"),)
    steps = (
        wanted.thought,
        "The user told me so before.",
        f"Again, the {wanted.fact.key} is {wanted.value}.",
    )
    return Task("memory", messages, effort, thoughts(effort, steps), wanted.answer)


def _untold(rng: random.Random, split: Split, effort: Effort, known: list[Known]) -> Task:
    """The first fact is asked for, only others were told."""
    wanted, *others = known
    key = wanted.fact.key
    steps = (
        f"The user never told me the {key}.",
        "I look again and do not find it.",
        "So I say that it was not told.",
    )
    messages = (*_history(rng, split, others), _question(rng, split, wanted.fact))
    return Task("memory", messages, effort, thoughts(effort, steps), f"You have not told me your {key}.")


def _telling(rng: random.Random, split: Split, effort: Effort, known: list[Known]) -> Task:
    told, acknowledged = _exchange(rng, split, known)
    facts = " ".join(each.thought for each in known)
    steps = (facts, "The user tells me this now.", f"Again: {', '.join(each.value for each in known)}.")
    return Task("memory", (told,), effort, thoughts(effort, steps), acknowledged.content)


def _known(rng: random.Random, split: Split, count: int) -> list[Known]:
    known: dict[str, Known] = {}
    while len(known) < count:
        fact = _fact(rng, split)
        known[fact.key] = Known(fact, fact.value(rng, split))
    return list(known.values())


def _fact(rng: random.Random, split: Split) -> Fact:
    chance = rng.random()
    if chance < NAMES:
        return _NAME
    if chance < NAMES + INVENTED:
        return Fact(words.noun(rng, split), _TOLD, _ASKED)
    return rng.choice((_CITY, _AGE, *_FACTS))


def _history(rng: random.Random, split: Split, known: list[Known]) -> tuple[Message, ...]:
    """The turns in which these facts are told, in one turn or in two, and small talk behind them."""
    turns = [known] if rng.random() < 0.5 else [[each] for each in known]
    told = [message for turn in turns if turn for message in _exchange(rng, split, turn)]
    talk = [message for _ in range(rng.choice((0, 0, 1, 2))) for message in _small_talk(rng, split)]
    return (*told, *talk)


def _exchange(rng: random.Random, split: Split, known: list[Known]) -> tuple[Message, Message]:
    told = " ".join(
        fill(phrase(rng, split, each.fact.told, OPENERS, ()), value=each.value, key=each.fact.key) for each in known
    )
    return Message("user", told), Message("assistant", " ".join(each.acknowledgement for each in known))


def _small_talk(rng: random.Random, split: Split) -> tuple[Message, Message]:
    family, text = exchange(rng, split, SMALL_TALK)
    return Message("user", text), Message("assistant", family.answer)


def _question(rng: random.Random, split: Split, fact: Fact) -> Message:
    return Message("user", fill(phrase(rng, split, fact.asked), key=fact.key))


KINDS: dict[str, Make] = {"memory": memory}
