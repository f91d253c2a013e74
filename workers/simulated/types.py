"""Arguments that fit a function's type as harmony prompts print it: TypeScript, as oss-harmony writes it from a JSON schema.

The prompt is all that is known of a function here, as it is to a model. It tells types, names, enums and what is optional, not
bounds, patterns or enums of numbers: arguments are held to those by their grammar (`workers.simulated.grammars`).

Whoever writes the prompt may write anything here, and it is read between two steps: in time that grows with its length, and no
deeper than `LEVELS`.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

LEVELS = 32  # of objects and lists in one another
REREAD = 1  # times the length of a type: how much of it may be read again, as part of something else

_FUNCTION = re.compile(r"^type (\S+) = \((?:_: |(?=\) => any;$))", re.MULTILINE)
_END = re.compile(r"\) => any;$", re.MULTILINE)
_BLANKS = re.compile(r"\s*")
_SPACES = re.compile(r"[ \t]*")
_LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_PROPERTY = re.compile(r"([^\n:]*?)(\??):(?=[ \n])")
_NAMED = re.compile(r"string|number|boolean|null|any|Array<any>|void|undefined")
_NOTE = re.compile(r"[ \t]*//[^\n]*")
_LINE = re.compile(r"[^\n]*\n?")
_VALUES: dict[str, Any] = {"number": 1, "boolean": True, "null": None, "any": {}, "Array<any>": []}


@dataclass(frozen=True)
class Function:
    name: str
    type: str  # of its arguments, empty where it takes none

    def arguments(self, text: str) -> str:
        """JSON that fits the type; strings without a choice are `text`."""
        value = _Reader(self.type, text).value() if self.type else {}
        return json.dumps(value if isinstance(value, dict) else {}, ensure_ascii=False)


def functions(namespace: str) -> tuple[Function, ...]:
    """The functions that a prompt declares, in its order."""
    found: list[Function] = []
    at = 0
    while (head := _FUNCTION.search(namespace, at)) and (end := _END.search(namespace, head.end())):
        found.append(Function(head[1], namespace[head.end() : end.start()]))
        at = end.end()
    return tuple(found)


class _Unreadable(Exception):
    """What stands here is no type."""


class _Hopeless(Exception):
    """Nor is any of what it is part of."""


class _Reader:
    """Reads one type from its beginning and makes a value of it."""

    def __init__(self, source: str, text: str) -> None:
        self._source, self._text, self._at = source, text, 0
        self._level = 0
        self._to_reread = REREAD * len(source)  # characters

    def value(self) -> Any:
        """A value of the type, {} where it cannot be read."""
        try:
            return self._union()
        except (_Unreadable, _Hopeless):
            return {}

    def _union(self) -> Any:
        """The first member's value. `"a" | "b"[]` is how a list of either is printed."""
        values = [self._member()]
        while self._take("|", across_lines=True):
            values.append(self._member())
        literals = all(isinstance(value, str) for value in values[:-1])
        return values[-1] if len(values) > 1 and literals and isinstance(values[-1], list) else values[0]

    def _member(self) -> Any:
        self._take("|", across_lines=True)
        value = self._single()
        lists = 0
        while self._take("[]"):
            lists += 1
            self._check(self._level + lists)
            value = [value]
        self._skip(_NOTE)
        return value

    def _single(self) -> Any:
        self._skip(_BLANKS)
        if self._take("{"):
            self._level += 1
            self._check(self._level)
            found = self._object()
            self._level -= 1
            return found
        if literal := _LITERAL.match(self._source, self._at):
            self._at = literal.end()
            return _unquoted(literal[0])
        named = _NAMED.match(self._source, self._at)
        if not named:
            raise _Unreadable
        self._at = named.end()
        return self._text if named[0] == "string" else _VALUES.get(named[0])

    def _object(self) -> dict[str, Any]:
        """Its properties that are not optional. A line that is none belongs to a description of several."""
        found: dict[str, Any] = {}
        while not self._take("}", across_lines=True):
            self._skip(_BLANKS)
            if self._at >= len(self._source):
                raise _Hopeless
            begin, level = self._at, self._level
            try:
                self._property(found)
            except _Unreadable:
                self._to_reread -= self._at - begin
                if self._to_reread < 0:
                    raise _Hopeless from None
                self._at, self._level = begin, level
            self._skip(_LINE)
        return found

    def _check(self, level: int) -> None:
        if level > LEVELS:
            raise _Hopeless

    def _property(self, found: dict[str, Any]) -> None:
        name = _PROPERTY.match(self._source, self._at)
        if name is None or name[1].startswith("//"):
            raise _Unreadable
        self._at = name.end()
        value = self._union()
        if not self._take(",", across_lines=True):
            raise _Unreadable
        if not name[2]:
            found[name[1]] = value

    def _take(self, text: str, across_lines: bool = False) -> bool:
        """Goes on behind the text where it comes next."""
        blanks = (_BLANKS if across_lines else _SPACES).match(self._source, self._at)
        assert blanks, "it matches nothing, too"
        found = self._source.startswith(text, blanks.end())
        if found:
            self._at = blanks.end() + len(text)
        return found

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if match := pattern.match(self._source, self._at):
            self._at = match.end()


def _unquoted(literal: str) -> str:
    try:
        return str(json.loads(literal))
    except ValueError:
        return literal[1:-1]
