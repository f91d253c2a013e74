"""Stop strings, matched across token boundaries: text that might still become one is withheld until it cannot."""

from collections.abc import Sequence


class StopStrings:
    """Fed text piece by piece; once one of the strings appears it is `found`, and nothing more comes out."""

    def __init__(self, strings: Sequence[str]) -> None:
        assert all(strings), "an empty stop string matches everywhere"
        self._strings = tuple(strings)
        self._withheld = ""
        self.found: str | None = None

    @property
    def matched(self) -> bool:
        return self.found is not None

    def feed(self, text: str) -> str:
        """The text that is now certain to precede any stop string."""
        if self.matched:
            return ""
        text = self._withheld + text
        found = [(index, string) for string in self._strings if (index := text.find(string)) >= 0]
        if found:
            (end, self.found), self._withheld = min(found), ""
            return text[:end]
        keep = max((_overlap(text, string) for string in self._strings), default=0)
        self._withheld = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was withheld, when no more text can follow it."""
        text, self._withheld = self._withheld, ""
        return text


def _overlap(text: str, string: str) -> int:
    """The length of the longest end of `text` that begins `string`."""
    longest = min(len(text), len(string) - 1)
    return next((length for length in range(longest, 0, -1) if text.endswith(string[:length])), 0)
