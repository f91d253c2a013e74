"""Arguments that fit a function's type as harmony prompts print it: TypeScript, as oss-harmony writes it from a JSON schema.

The prompt is all that is known of a function, as it is to a model. It tells types, names, enums and what is optional, not
bounds or patterns: arguments of strict functions are held to those by their grammar.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

_FUNCTION = re.compile(r"^type (\S+) = \((?:_: (.*?))?\) => any;$", re.MULTILINE | re.DOTALL)
_LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_PROPERTY = re.compile(r"[ \t]*([^\n:]*?)(\??):(?=[ \n])")
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
    return tuple(Function(match[1], match[2] or "") for match in _FUNCTION.finditer(namespace))


class _Unreadable(Exception):
    """What stands here is no type."""


class _Reader:
    """Reads one type from its beginning and makes a value of it."""

    def __init__(self, source: str, text: str) -> None:
        self._source, self._text, self._at = source, text, 0

    def value(self) -> Any:
        """A value of the type, {} where it cannot be read."""
        try:
            return self._union()
        except _Unreadable:
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
        while self._take("[]"):
            value = [value]
        self._skip(_NOTE)
        return value

    def _single(self) -> Any:
        self._skip(re.compile(r"\s*"))
        if self._take("{"):
            return self._object()
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
            if self._at >= len(self._source):
                raise _Unreadable
            begin = self._at
            try:
                self._property(found)
            except _Unreadable:
                self._at = begin
            self._skip(_LINE)
        return found

    def _property(self, found: dict[str, Any]) -> None:
        self._skip(re.compile(r"\s*"))
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
        blanks = re.compile(r"\s*" if across_lines else r"[ \t]*").match(self._source, self._at)
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
