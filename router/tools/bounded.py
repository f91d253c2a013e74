"""Keeps the beginning and the end of what is too long: output says what it is at its start, and what failed at its end."""


class Bounded:
    """Bytes as they come, of which at most `most`, one or more, are kept."""

    def __init__(self, most: int) -> None:
        self._first = most // 2
        self._last = most - self._first
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Takes more bytes."""
        self._size += len(data)
        room = max(0, self._first - len(self._head))
        self._head += data[:room]
        self._tail += data[room:]
        del self._tail[: -self._last]

    def text(self) -> str:
        """What was kept, as UTF-8; characters that were cut or never valid are replaced."""
        left_out = self._size - len(self._head) - len(self._tail)
        if not left_out:
            return (self._head + self._tail).decode(errors="replace")
        head, tail = self._head.decode(errors="ignore"), self._tail.decode(errors="ignore")
        return f"{head}\n[... {left_out} bytes left out ...]\n{tail}"


def bounded(text: str, most: int) -> str:
    """The text, or its beginning and end where it has more than `most` bytes of UTF-8."""
    kept = Bounded(most)
    kept.add(text.encode(errors="replace"))
    return kept.text()
