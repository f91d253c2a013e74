"""Facts from a sentence as a JSON object, following a small schema in the developer message.

Split are names and invented words, and the phrasings of developer and user.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from router.harmony.types import Effort, Message
from training import words
from training.kinds.instructions import ROLES
from training.kinds.phrasing import either, fill, listed, phrase
from training.kinds.talk import OPENERS, thoughts
from training.split import draw
from training.task import Make, Split, Task

Value = str | int | bool

EXTRA = 0.3
"""The share of tasks that state a fact more than the schema asks for."""
BY_USER = 0.1
"""The share of tasks in which the user states the schema too."""
_LABELS = "ABC"
"""Behind each field in the analysis: behind a label comes the next one."""
_COLORS = either(
    """
    red | green | blue | yellow | white | black | brown | pink | purple | orange | gray | gold | silver
    """
)
_COUNTED = either(
    """
        books | cars | dogs | cats | boxes | tickets | pens | apples | chairs | friends | coins | houses | horses | birds
        songs | games | cups | keys
        """
)
_TRUE_OR_NOT = either(
    """
        married | tall | happy | tired | rich | young | old | busy | hungry | strong | quiet | blind | late | famous | lucky
        alone | awake | sick
        """
)


@dataclass(frozen=True)
class Field:
    """A field of the schema, its value, and what is said of somebody of whom it is true.

    `joint` is the one token before the value in the user's words, if it tells the value from others: by it the value is found.
    """

    key: str
    value: Value
    said: str = ""
    joint: str = ":"

    @property
    def type(self) -> str:
        return {str: "string", int: "integer", bool: "boolean"}[type(self.value)]

    @property
    def text(self) -> str:
        return str(self.value).lower() if isinstance(self.value, bool) else str(self.value)


def json_request(rng: random.Random, split: Split, effort: Effort) -> Task:
    """Answers with exactly the object that the schema describes."""
    asked, extra = rng.choice((1, 2, 2, 2, 3, 3)), int(rng.random() < EXTRA)
    personal = rng.random() < 0.5
    stated = _of_person(rng, split, asked + extra) if personal else _of_thing(rng, split, asked + extra)
    text, stated = (_sentence if personal else _labelled)(rng, split, stated)
    fields = rng.sample(stated, asked)
    answer = json.dumps({field.key: field.value for field in fields}, separators=(",", ":"))
    facts = " ".join(f"{field.key}{field.joint} {field.text} {label}" for label, field in zip(_LABELS, fields, strict=False))
    steps = (
        f"Fields: {' '.join(f'{field.key} {label}' for label, field in zip(_LABELS, fields, strict=False))}. Fields: {facts}.",
        f"The answer has them in this order: {', '.join(field.key for field in fields)}.",
        f"Again, to be sure: {facts}.",
    )
    messages = _messages(rng, _request(rng, split, fields), text)
    return Task("json", messages, effort, thoughts(effort, steps), answer, accepts=partial(_same_json, answer))


def _messages(rng: random.Random, request: str, text: str) -> tuple[Message, ...]:
    if rng.random() < BY_USER:
        return (Message("user", rng.choice((f"{request}\n{text}", f"{text}\n{request}"))),)
    return Message("developer", request), Message("user", text)


def _same_json(expected: str, said: str) -> bool:
    """Whether both are the same JSON; the order of keys and white space do not matter, 1, 1.0 and true do differ."""
    try:
        return json.dumps(json.loads(said), sort_keys=True) == json.dumps(json.loads(expected), sort_keys=True)
    except ValueError:
        return False


def _of_person(rng: random.Random, split: Split, count: int) -> list[Field]:
    """Somebody's name first, of which there must be a fact more, then what else is said."""
    fields = {"name": Field("name", words.name(rng, split))}
    while len(fields) < max(count, 2):
        field = rng.choice(_PERSONAL)(rng, split)
        fields[field.key] = field
    return list(fields.values())


def _pick(key: str, said: str, value: Callable[[random.Random, Split], Value]) -> Callable[[random.Random, Split], Field]:
    before, _, behind = said.partition("{value}")
    joint = ":" if behind else f" {before.split()[-1]}"

    def make(rng: random.Random, split: Split) -> Field:
        chosen = value(rng, split)
        return Field(key, chosen, fill(said, value=str(chosen)), joint)

    return make


def _counted(rng: random.Random, split: Split) -> Field:
    key, number = rng.choice(_COUNTED), _number(rng)
    return Field(key, number, f"{rng.choice(('has', 'owns', 'bought'))} {number} {key}")


def _true_or_not(rng: random.Random, split: Split) -> Field:
    key, value = rng.choice(_TRUE_OR_NOT), rng.random() < 0.5
    return Field(key, value, f"is {key}" if value else f"is not {key}")


def _number(rng: random.Random) -> int:
    return rng.randrange(1000, 10_000) if rng.random() < 0.1 else rng.randrange(2, 1000)


_PERSONAL = (
    _pick("age", "is {value} years old", lambda rng, split: rng.randrange(5, 100)),
    _pick("age", "is {value} years old", lambda rng, split: rng.randrange(5, 100)),
    _pick("city", "lives in {value}", words.name),
    _pick("country", "comes from {value}", words.name),
    _pick("job", "works as a {value}", lambda rng, split: rng.choice(ROLES)),
    _pick("color", "likes the color {value}", lambda rng, split: rng.choice(_COLORS)),
    _pick("friend", "is a friend of {value}", words.name),
    _pick("team", "plays for {value}", words.name),
    _pick("pet", "has a pet called {value}", words.name),
    _pick("language", "speaks {value}", words.name),
    _pick("room", "is in room {value}", lambda rng, split: _number(rng)),
    _pick("height", "is {value} cm tall", lambda rng, split: rng.randrange(90, 210)),
    _pick("food", "likes to eat {value}", lambda rng, split: words.common(rng)),
    _counted,
    _counted,
    _true_or_not,
    _true_or_not,
)


def _of_thing(rng: random.Random, split: Split, count: int) -> list[Field]:
    """Facts of anything: the fields are ordinary words or invented ones."""
    fields: dict[str, Field] = {}
    while len(fields) < count:
        key = words.noun(rng, split) if rng.random() < 0.5 else words.common(rng)
        fields[key] = Field(key, _value(rng, split))
    return list(fields.values())


def _value(rng: random.Random, split: Split) -> Value:
    chance = rng.random()
    if chance < 0.4:
        return words.name(rng, split)
    if chance < 0.65:
        return words.noun(rng, split) if chance < 0.5 else words.common(rng)
    return _number(rng) if chance < 0.92 else chance < 0.96


_SENTENCES = either(
    """
    {facts}. | {facts}. | Facts: {facts}. | It is known that {facts}. | My friend says: {facts}. | Note: {facts}.
    Convert this: {facts}. | Extract this: {facts}. | Here it is: {facts}. | I know that {facts}. | {facts}!
    """
)


def _sentence(rng: random.Random, split: Split, stated: list[Field]) -> tuple[str, list[Field]]:
    """ "Plovdan is 34 years old and lives in Brimlo." """
    name, *others = stated
    facts = f"{name.value} {listed([field.said for field in others])}"
    return fill(phrase(rng, split, _SENTENCES, OPENERS), facts=facts), stated


_STATED = (
    ("The {key} is {value}", " and the {key} is {value}"),
    ("the {key} is {value}", ", the {key} is {value}"),
    ("The {key} is {value}", ". The {key} is {value}"),
    ("{key}: {value}", ", {key}: {value}"),
    ("{key} = {value}", "; {key} = {value}"),
    ("{key} {value}", ", {key} {value}"),
    ("It has {key} {value}", " and {key} {value}"),
    ("With {key} {value}", ", with {key} {value}"),
    ("Its {key} is {value}", ", its {key} is {value}"),
)
"""How the first fact is stated, and how another."""
_LABELED = either(
    """
    {facts}. | {facts}. | {facts} | Facts: {facts}. | Here is the data: {facts}. | Convert this: {facts}.
    Extract this: {facts}. | We know this: {facts}. | Write it down: {facts}. | The data: {facts}.
    """
)


def _labelled(rng: random.Random, split: Split, stated: list[Field]) -> tuple[str, list[Field]]:
    """ "The brimlo is Zorvex and the age is 34." """
    frame = phrase(rng, split, _LABELED, OPENERS)
    first, other = rng.choice(_STATED)
    parts = [fill(other if index else first, key=field.key, value=field.text) for index, field in enumerate(stated)]
    joint = first.removesuffix("{value}").split("{key}")[1].rstrip() or ":"
    return fill(frame, facts="".join(parts)), [replace(field, joint=joint) for field in stated]


_REQUESTS = either(
    """
    Answer in JSON: {schema} | Answer in JSON with this schema: {schema} | Reply only with JSON: {schema} | JSON: {schema}
    Write the facts as JSON: {schema} | Your answer is a JSON object: {schema} | Output JSON that matches {schema}
    Turn what the user says into JSON: {schema} | Return a JSON object with these fields: {schema} | Return JSON: {schema}
    Extract these fields as JSON: {schema} | Answer only with a JSON object of this form: {schema} | Use this JSON: {schema}
    Give the answer as JSON. Schema: {schema} | Always respond with JSON like {schema} | Respond in JSON. Fields: {schema}
    You convert text to JSON: {schema} | Produce JSON with the following schema: {schema}
    The answer must be JSON: {schema}
    """
)


def _request(rng: random.Random, split: Split, fields: list[Field]) -> str:
    frame, layout = draw(split, lambda: (rng.choice(_REQUESTS), rng.choice(list(_LAYOUTS))))
    return fill(frame, schema=_LAYOUTS[layout](fields))


def _compact(fields: list[Field]) -> str:
    return "{" + ", ".join(f'"{field.key}": {field.type}' for field in fields) + "}"


def _quoted(fields: list[Field]) -> str:
    return json.dumps({field.key: field.type for field in fields})


def _json_schema(fields: list[Field]) -> str:
    properties = {field.key: {"type": field.type} for field in fields}
    schema = {"type": "object", "properties": properties, "required": [field.key for field in fields]}
    return json.dumps(schema, separators=(",", ":"))


def _in_words(fields: list[Field]) -> str:
    return listed([f"{field.key} ({field.type})" for field in fields]) + "."


def _typed(fields: list[Field]) -> str:
    return ", ".join(f"{field.key}: {field.type}" for field in fields)


def _keys(fields: list[Field]) -> str:
    return listed([field.key for field in fields])


_LAYOUTS = {"keys": _keys, "compact": _compact, "quoted": _quoted, "schema": _json_schema, "words": _in_words, "typed": _typed}

KINDS: dict[str, Make] = {"json": json_request}
