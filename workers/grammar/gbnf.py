"""From a grammar in GBNF, as llama.cpp and vLLM take it, to one in Lark's form. Knows neither masks nor the library.

The form is that of github.com/ggml-org/llama.cpp, grammars/README.md, where a rule may go on in the next line, as in xgrammar's
EBNF. Both say sequences, choices, groups and repetitions alike, so that one becomes the other token by token.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from workers.engine.checks import invalid

MAX_REPEATS = 10_000
MAX_TERMINAL = 1 << 12
"""Tokens of a rule, with those of the rules that it names in their places, up to which it is matched as one expression."""

_RULE = re.compile(r"^[ \t]*[A-Za-z0-9_-]+\s*::=", re.MULTILINE)
_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<rule>[A-Za-z0-9_-]+)\s*::=
    |(?P<name>[A-Za-z0-9_-]+)
    |"(?P<text>(?:[^"\\]|\\.)*)"
    |\[(?P<class>(?:[^\]\\]|\\.)*)\]
    |(?P<repeat>[*+?]|\{\s*(?P<least>\d{1,9})\s*(?:,\s*(?P<most>\d{1,9})?\s*)?\})
    |(?P<sign>[.|()])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_CHARACTER = re.compile(
    r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([nrt])|([^A-Za-z0-9]))|([^\\])", re.DOTALL
)
_CONTROL = {"n": "\n", "r": "\r", "t": "\t"}
_ANY = "/(?s:.)/"


@dataclass
class Rule:
    """`parts` are Lark's, but for the names of rules, which are at the places `names`."""

    parts: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    groups: int = 0  # that are open
    empty: bool = True  # nothing has come in this sequence
    repeatable: bool = False  # what came last

    def add(self, part: str) -> None:
        self.parts.append(part)
        self.empty, self.repeatable = False, True

    def end(self) -> None:
        """Of a sequence; one of nothing is an empty text."""
        if self.empty:
            self.parts.append('""')

    def begin(self, sign: str) -> None:
        self.parts.append(sign)
        self.empty, self.repeatable = True, False


def spoken(text: str) -> bool:
    """Whether the text is GBNF, or means to be: no line of Lark's form begins like a rule of it."""
    return _RULE.search(text) is not None


def lark(text: str, field: str) -> str:
    """The grammar in Lark's form, `start` in the place of `root`. Raises Refusal where it says what is wrong."""
    rules = _rules(text, field)
    for rule in rules.values():
        for name in rule.names.values():
            if name not in rules:
                raise invalid(f"the grammar names the rule {name!r}, which it does not have", "INVALID_GRAMMAR", field)
    if "root" not in rules:
        raise invalid("the grammar has no rule 'root', where its texts begin", "INVALID_GRAMMAR", field)
    terminals = _terminals(rules)
    named = {name: f"{'T' if name in terminals else 'r'}{number}" for number, name in enumerate(rules)}
    lines = [f"{named[name]}: {_written(rule, named)}" for name, rule in rules.items()]
    return "\n".join((f"start: {named['root']}", *lines))


def _written(rule: Rule, named: dict[str, str]) -> str:
    return " ".join(named[rule.names[place]] if place in rule.names else part for place, part in enumerate(rule.parts))


def _rules(text: str, field: str) -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    rule = Rule(groups=-1)  # none has begun
    for match in _tokens(text, field):
        try:
            if match["rule"]:
                _end(rule)
                rule = rules[_new(match["rule"], rules)] = Rule()
            elif rule.groups < 0:
                raise ValueError("a rule begins with its name and ::=")
            else:
                _take(rule, match)
        except ValueError as error:
            raise _fault(str(error), text, match.start(), field) from error
    try:
        _end(rule)
    except ValueError as error:
        raise _fault(str(error), text, len(text), field) from error
    return rules


def _tokens(text: str, field: str) -> Iterator[re.Match[str]]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _fault(f"{text[at : at + 20]!r} is no part of a rule", text, at, field)
        if match.lastgroup != "space":
            yield match
        at = match.end()


def _fault(message: str, text: str, at: int, field: str) -> Exception:
    return invalid(f"line {text.count(chr(10), 0, at) + 1} of the grammar: {message}", "INVALID_GRAMMAR", field)


def _new(name: str, rules: dict[str, Rule]) -> str:
    if name in rules:
        raise ValueError(f"the rule {name!r} is there already")
    return name


def _end(rule: Rule) -> None:
    if rule.groups > 0:
        raise ValueError("a group of the rule before is not closed")
    rule.end()


def _take(rule: Rule, match: re.Match[str]) -> None:
    """The rule goes on by the token. Raises ValueError where it cannot."""
    match match.lastgroup, match[0]:
        case "name", name:
            rule.names[len(rule.parts)] = name
            rule.add(name)
        case "text", _:
            text = "".join(character for character, _ in _characters(match["text"]))
            rule.add(json.dumps(text).replace("\x7f", "\\u007f"))
        case "class", _:
            rule.add(_class(match["class"]))
        case "repeat", repeat:
            _repeat(rule, repeat, match["least"], match["most"])
        case _, ".":
            rule.add(_ANY)
        case _, "(":
            rule.begin("(")
            rule.groups += 1
        case _, "|":
            rule.end()
            rule.begin("|")
        case _, ")":
            rule.groups -= 1
            if rule.groups < 0:
                raise ValueError("a group is closed that was not opened")
            rule.end()
            rule.add(")")


def _repeat(rule: Rule, repeat: str, least: str | None, most: str | None) -> None:
    if not rule.repeatable:
        raise ValueError(f"there is nothing that {repeat} repeats")
    if max(int(least or 0), int(most or 0)) > MAX_REPEATS or most is not None and int(most) < int(least or 0):
        raise ValueError(f"{repeat} repeats more often than {MAX_REPEATS} times, or never")
    rule.add("".join(repeat.split()))
    rule.repeatable = False


def _class(body: str) -> str:
    """An expression that matches one character of the class."""
    characters = list(_characters(body))
    negated = characters[:1] == [("^", False)]
    members: list[str] = []
    at = int(negated)
    while at < len(characters):
        first, last = characters[at][0], characters[at][0]
        if characters[at + 1 : at + 2] == [("-", False)] and at + 2 < len(characters):
            at, last = at + 2, characters[at + 2][0]
        if last < first:
            raise ValueError(f"the range {first}-{last} ends before it begins")
        members.append(_spelled(first) if last == first else f"{_spelled(first)}-{_spelled(last)}")
        at += 1
    if not members and not negated:
        raise ValueError("a class has no character")
    return f"/[{'^' * negated}{''.join(members)}]/" if members else _ANY


def _spelled(character: str) -> str:
    return character if character.isalnum() and character.isascii() else f"\\x{{{ord(character):X}}}"


def _characters(spelled: str) -> Iterator[tuple[str, bool]]:
    """Each character, and whether it was escaped."""
    at = 0
    while at < len(spelled):
        match = _CHARACTER.match(spelled, at)
        if match is None:
            raise ValueError(f"{spelled[at : at + 10]!r} is no character")
        *codes, control, escaped, plain = match.groups()
        code = next((int(code, 16) for code in codes if code), None)
        if code is not None and (code > 0x10FFFF or 0xD800 <= code < 0xE000):
            raise ValueError(f"{match[0]} is no character")
        found = chr(code) if code is not None else _CONTROL[control] if control else escaped or plain
        yield found, plain is None
        at = match.end()


def _terminals(rules: dict[str, Rule]) -> set[str]:
    """Rules that name none but such, and so are regular: each is matched as one, and not in greedy parts."""
    waiting = {name: len(set(rule.names.values())) for name, rule in rules.items()}
    users: dict[str, list[str]] = defaultdict(list)
    for name, rule in rules.items():
        for used in set(rule.names.values()):
            users[used].append(name)
    sizes: dict[str, int] = {}
    ready = [name for name, count in waiting.items() if not count]
    for name in ready:
        named = Counter(rules[name].names.values())
        size = len(rules[name].parts) + sum(sizes[used] * count for used, count in named.items())
        if size <= MAX_TERMINAL:
            sizes[name] = size
            for user in users[name]:
                waiting[user] -= 1
                if not waiting[user]:
                    ready.append(user)
    return set(sizes)
