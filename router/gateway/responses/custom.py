"""The text that custom tools take, inside the JSON that gpt-oss writes to every function. Knows nothing of requests.

The model was trained to call functions with JSON objects alone, so a custom tool is shown to it as a function of one string.
"""

import json
import re

from ossia.common import vocabulary
from router.gateway.errors import Json, dumps

FIELD = "input"
_HEAD = re.compile(rf'\s*\{{\s*"{FIELD}"\s*:\s*"')
_HEX = "[0-9a-fA-F]"
_PAIR = rf"\\u[dD][89abAB]{_HEX}{{2}}"
_BROKEN = rf"\\u(?={_HEX}{{0,3}}(?!{_HEX}).)"
_WHOLE = re.compile(
    rf'(?:[^"\\]|{_PAIR}(?:\\u{_HEX}{{4}}|(?=[^\\]|\\[^u]|{_BROKEN}))|(?!{_PAIR})\\u{_HEX}{{4}}|{_BROKEN}|\\[^u])*', re.DOTALL
)
"""Characters of a JSON string up to its end, or to an escape that is not whole yet; both halves of a pair stay together."""
_ESCAPE = re.compile(rf"{_PAIR}\\u{_HEX}{{4}}|\\u{_HEX}{{4}}|\\.", re.DOTALL)


def parameters(pattern: str | None) -> Json:
    """The JSON schema of that object; the text matches the pattern from end to end."""
    held = {} if pattern is None else {"pattern": f"^(?:{pattern})$"}
    text = {"type": "string", "description": "free text", **held}
    return {"type": "object", "properties": {FIELD: text}, "required": [FIELD], "additionalProperties": False}


def wrapped(text: str) -> str:
    """The arguments of a call with this text."""
    return dumps({FIELD: text})


class Input:
    """Fed the arguments of a call piece by piece, gives the text as it comes; arguments of another form are text themselves."""

    def __init__(self) -> None:
        self._pending = ""
        self._inside = False
        self._over = False

    def feed(self, arguments: str) -> str:
        """What is certain by now."""
        if self._over:
            return ""
        self._pending += arguments
        if not self._inside:
            head = _HEAD.match(self._pending)
            if head is None:
                return ""
            self._inside, self._pending = True, self._pending[head.end() :]
        return self._unescaped()

    def close(self) -> str:
        """What was left when no more came."""
        if self._inside or self._over:
            return ""
        return self._pending

    def _unescaped(self) -> str:
        match = _WHOLE.match(self._pending)
        assert match is not None, "it matches the empty text"
        text, self._pending = match[0], self._pending[match.end() :]
        if self._pending.startswith('"'):
            self._over = True
        return vocabulary.well_formed(_ESCAPE.sub(_unescape, text))


def _unescape(escape: re.Match[str]) -> str:
    """The character; what JSON has no such escape for stays as it is written."""
    try:
        character: str = json.loads(f'"{escape[0]}"')
    except ValueError:
        return escape[0]
    return character
