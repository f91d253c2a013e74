"""Functions with what a user says to have them called: of real kinds (`families`) and with invented names. Knows no turns.

Split are the names of functions and arguments, the values, and the phrasings.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from ossia.common import vocabulary
from router.harmony.types import Tool
from training import words
from training.kinds.families import ACTIONS, ASKED, FOUND, OTHER_WORDS, QUESTIONS, REAL, TOLD, VALUES
from training.kinds.phrasing import fill, phrase
from training.split import draw
from training.task import Split

Value = str | int

_PLACE = re.compile(r"\{(\w+)\}")
_BEFORE = (*[""] * 7, "_my", "_new", "_next", "_the", "_current", "_this")
_BEHIND = (*[""] * 7, "_now", "_data", "_info", "_by_name", "_here", "_text")
"""What stands around the topic in a function's name."""
_FIRST = (*[""] * 10, "my_", "new_", "the_", "target_", "given_", "user_", "first_", "main_")
_LAST = (*[""] * 10, "_name", "_value", "_text", "_id", "_here", "_data")
"""What stands around the word in an argument's name."""
_TELL = ("get", "find", "tell", "give", "return", "show")
_CALLED = (
    *("with {name} {value}", "with {name} {value}", "for {name} {value}", "with the {name} {value}", "at {name} {value}"),
    *("where {name} is {value}", "where the {name} is {value}", "whose {name} is {value}", "if {name} is {value}"),
    *("with a {name} of {value}", "using {name} {value}", "with {name} = {value}", "with {name}: {value}"),
)
_ADJECTIVES = ("current", "given", "full", "best", "right", "local", "new", "next")
_SCOPES = ("of a user", "in a list", "for a place", "from the server", "by name", "of a thing", "for a day", "with care")


@dataclass(frozen=True)
class Argument:
    """One argument; `choices` are all that it may be, where those are declared."""

    name: str
    word: str
    kind: str
    required: bool
    choices: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Request:
    """A user's words that call for a declared function. `arguments` are those that the user states, in declared order."""

    function: "Function"
    text: str
    arguments: dict[str, Value]


@dataclass(frozen=True)
class Function:
    """A declared function that users ask for in many ways.

    `purpose` is the description from its topic on; `said` are words that users may ask for it with, values apart; `ask` draws
    a user's words, with places for arguments, and which arguments those are.
    """

    tool: Tool
    topic: str
    purpose: str
    arguments: tuple[Argument, ...]
    said: frozenset[str]
    split: Split
    ask: Callable[[random.Random], tuple[str, list[Argument]]]

    def request(self, rng: random.Random) -> Request:
        text, stated = self.ask(rng)
        values = {each.name: _value(rng, self.split, each) for each in stated}
        text = fill(text, **{each.name: str(values[each.name]) for each in stated})
        return Request(self, text, {each.name: values[each.name] for each in self.arguments if each in stated})


def function(rng: random.Random, split: Split) -> Function:
    """One function; half of them are of real kinds."""
    return rng.choice((_question, _action, _invented, _invented))(rng, split)


def _question(rng: random.Random, split: Split) -> Function:
    what = rng.choice(QUESTIONS)
    return _real(rng, split, what, FOUND, _TELL, _asked)


def _action(rng: random.Random, split: Split) -> Function:
    verbs, what = rng.choice(ACTIONS).split(": ")
    known = tuple(verbs.split())
    return _real(rng, split, what, known, known, lambda rng, wording: _told(rng, rng.choice(known), wording))


def _real(
    rng: random.Random,
    split: Split,
    what: str,
    verbs: tuple[str, ...],
    tells: tuple[str, ...],
    asked: Callable[[random.Random, str], str],
) -> Function:
    """A function of a family: `verbs` are for its name, `tells` for its description."""
    wording, *sayings = what.split(" / ")
    main, _, extra = wording.partition(" | ")
    topic, required = main.split()[1], _PLACE.findall(main)
    arguments = {
        word: _argument(rng, split, _named(rng, split, word), word, VALUES[word], word in required)
        for word in _PLACE.findall(wording)
    }

    def frame(rng: random.Random) -> str:
        if sayings and rng.random() < 0.25:
            return rng.choice(sayings)
        return asked(rng, f"{main} {extra}" if extra and rng.random() < 0.5 else main)

    def ask(rng: random.Random) -> tuple[str, list[Argument]]:
        text = phrase(rng, split, lambda: frame(rng))
        stated = [arguments[word] for word in _PLACE.findall(text)]
        return fill(text, **{each.word: f"{{{each.name}}}" for each in stated}), stated

    name = draw(split, lambda: f"{rng.choice(verbs)}{rng.choice(_BEFORE)}_{topic}{rng.choice(_BEHIND)}")
    purpose = _plain(main).split(" ", 1)[1] if rng.random() < 0.6 else topic
    said = frozenset(re.findall(r"\w+", what.lower()))
    return _declared(rng, split, name, topic, _verb(rng, tells), purpose, list(arguments.values()), said, ask)


def _named(rng: random.Random, split: Split, word: str) -> str:
    """An argument's name with this word in it, or another for the same."""
    word = rng.choice((word, word, *OTHER_WORDS.get(word, ())))
    return draw(split, lambda: f"{rng.choice(_FIRST)}{word}{rng.choice(_LAST)}")


def _invented(rng: random.Random, split: Split) -> Function:
    """A function of which all names are invented; the user calls the arguments by their names."""
    name, topic = _function(rng, split)
    verb = name.split("_")[0]
    arguments = _arguments(rng, split, topic)

    def ask(rng: random.Random) -> tuple[str, list[Argument]]:
        stated = [each for each in arguments if each.required or rng.random() < 0.5]
        if rng.random() < 0.3:
            rng.shuffle(stated)
        text = phrase(rng, split, lambda: _called(rng, verb, len(stated)))
        for place, each in enumerate(stated):
            text = fill(text, **{f"name{place}": each.name, f"value{place}": f"{{{each.name}}}"})
        return fill(text, topic=topic), stated

    purpose = f"{topic} {rng.choice(_SCOPES)}" if rng.random() < 0.4 else topic
    said = frozenset((topic, *(each.name for each in arguments)))
    return _declared(rng, split, name, topic, _verb(rng, (*_TELL, verb)), purpose, arguments, said, ask)


def _arguments(rng: random.Random, split: Split, topic: str) -> list[Argument]:
    """One to three with invented names; the last of several may be optional."""
    count = rng.choice((1, 1, 1, 2, 2, 2, 3))
    optional = count > 1 and rng.random() < 0.4
    names: list[str] = []
    while len(names) < count:
        name = words.noun(rng, split)
        if name not in (topic, *names):
            names.append(name)
    made = []
    for place, name in enumerate(names):
        kind = rng.choice(("name", "name", "words", "word", "number", "number", "number"))
        made.append(_argument(rng, split, name, name, kind, not optional or place < count - 1))
    return made


def _argument(rng: random.Random, split: Split, name: str, word: str, kind: str, required: bool) -> Argument:
    free = Argument(name, word, kind, required)
    if kind != "word" or rng.random() >= 0.2:
        return free
    choices: set[Value] = set()
    while len(choices) < 2:
        choices.add(_value(rng, split, free))
    return replace(free, choices=tuple(rng.sample(sorted(map(str, choices)), 2)))


def _function(rng: random.Random, split: Split) -> tuple[str, str]:
    """An invented function and its topic, which is split into the same tokens in its name and in a sentence."""
    while True:
        name = words.function(rng, split)
        topic = name.split("_", 1)[1]
        if vocabulary.encode(f" {topic}")[1:] == vocabulary.encode(f"_{topic}")[1:]:
            return name, topic


def _called(rng: random.Random, verb: str, count: int) -> str:
    """How a user asks for an invented function with so many arguments."""
    wording = "the {topic}"
    for place in range(count):
        joined = fill(rng.choice(_CALLED), name=f"{{name{place}}}", value=f"{{value{place}}}")
        wording += f" and {joined}" if place and rng.random() < 0.7 else f" {joined}"
    if count == 1 and rng.random() < 0.3:
        wording = f"the {{topic}} {rng.choice(('of', 'for', 'in', 'at', 'with'))} {{value0}}"
    return _told(rng, verb, wording) if rng.random() < 0.4 else _asked(rng, wording)


def _told(rng: random.Random, verb: str, wording: str) -> str:
    return _capital(fill(rng.choice(TOLD), x=f"{verb} {wording}"))


def _asked(rng: random.Random, wording: str) -> str:
    return _capital(fill(rng.choice(ASKED), x=wording))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _verb(rng: random.Random, verbs: tuple[str, ...]) -> str:
    """A verb at the start of a description: "Get" or "Gets"."""
    verb = rng.choice(verbs).capitalize()
    if rng.random() < 0.5:
        return verb
    if verb.endswith(("s", "h", "x")):
        return f"{verb}es"
    return f"{verb[:-1]}ies" if verb[-2:] in ("py", "ry", "ly") else f"{verb}s"


def _plain(wording: str) -> str:
    """The wording with its places named: "the weather in a city", "a timer for some minutes", "the folder"."""
    wording = re.sub(r"\{(\w+)\} \1", r"some \1", wording)
    wording = re.sub(r"(\w+) \{\1\}", r"\1", wording)
    return _PLACE.sub(lambda place: f"{'an' if place[1][0] in 'aeio' else 'a'} {place[1]}", wording)


def _declared(
    rng: random.Random,
    split: Split,
    name: str,
    topic: str,
    verb: str,
    purpose: str,
    arguments: list[Argument],
    said: frozenset[str],
    ask: Callable[[random.Random], tuple[str, list[Argument]]],
) -> Function:
    """The function, with its required arguments declared first."""
    arguments = sorted(arguments, key=lambda each: not each.required)
    described = rng.random() < 0.2
    description = f"{verb} the {rng.choice(_ADJECTIVES)} {purpose}." if rng.random() < 0.15 else f"{verb} the {purpose}."
    properties = {each.name: _schema(each, described) for each in arguments}
    required = [each.name for each in arguments if each.required]
    tool = Tool(name, description, {"type": "object", "properties": properties, "required": required})
    return Function(tool, topic, purpose, tuple(arguments), said, split, ask)


def _schema(argument: Argument, described: bool) -> dict[str, object]:
    schema: dict[str, object] = {"type": "integer" if argument.kind == "number" else "string"}
    if argument.choices:
        schema["enum"] = list(argument.choices)
    return schema | {"description": f"The {argument.word}."} if described else schema


def _value(rng: random.Random, split: Split, argument: Argument) -> Value:
    match argument.kind:
        case _ if argument.choices:
            return rng.choice(argument.choices)
        case "name":
            real = split == "train" and rng.random() < 0.15
            return draw(split, lambda: rng.choice(REAL)) if real else words.name(rng, split)
        case "number":
            return draw(split, lambda: rng.randrange(rng.choice((10, 100, 1000))))
        case "word" if rng.random() < 0.3:
            return words.noun(rng, split)
        case kind:
            count = rng.randint(1, 2) if kind == "words" else 1
            return draw(split, lambda: " ".join(words.common(rng) for _ in range(count)))
