"""What `ossia serve` and `ossia replica` tell the person at the terminal: one line a change, on stderr, and a bar below."""

import select
import sys
from contextlib import suppress
from typing import TextIO

from ossia.v1 import fleet_pb2

WORDS = {
    fleet_pb2.REPLICA_STATE_STARTING: "is starting",
    fleet_pb2.REPLICA_STATE_READY: "is ready",
    fleet_pb2.REPLICA_STATE_FAILED: "failed",
}


BAR = 30  # characters
PIECE = 1024  # characters: at most the bytes that a pipe with any room takes at once
PATIENCE_S = 1.0
CLEAR = "\r\x1b[K"  # the line that the cursor is in: https://www.ecma-international.org/publications-and-standards/standards/ecma-48/


class Progress:
    """Remembers what was said of each replica, so that nothing is said twice in a row."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._said: dict[str, str] = {}
        self._bar = ""
        self._read = True  # nobody has let the stream fill up

    def say(self, text: str) -> None:
        self.write(f"ossia: {text}")

    def write(self, line: str) -> None:
        """A line as it is, above the bar."""
        clear = CLEAR if self._bar else ""
        self._print(f"{clear}{line}\n{self._bar}")

    def bar(self, share: float, text: str) -> None:
        """Shows a share of 1, on a terminal alone."""
        if self._stream and self._stream.isatty():
            self._bar = f"ossia: [{'#' * int(BAR * share):.<{BAR}}] {text}"
            self._print(f"{CLEAR}{self._bar}")

    def end_bar(self) -> None:
        """Leaves it as it is; what is said next comes below."""
        if self._bar:
            self._bar = ""
            self._print("\n")

    def fleet(self, state: fleet_pb2.FleetState) -> None:
        """Says which replicas changed."""
        for replica in state.replicas:
            words = WORDS.get(replica.state, "is unknown")
            line = f"{replica.name} {words}" + (f": {replica.message}" if replica.message else "")
            if self._said.get(replica.name) != line:
                self._said[replica.name] = line
                self.say(line)

    def _print(self, text: str) -> None:
        """Whoever watched may have left, as `tee` after Ctrl-C, or stand still: nothing fails for that, least of all an end."""
        size = 1 if self._stream and self._stream.isatty() else PIECE  # a terminal's room may end before a line does
        for start in range(0, len(text) if self._stream else 0, size):
            with suppress(OSError):
                if self._has_room():
                    print(text[start : start + size], end="", file=self._stream, flush=True)

    def _has_room(self) -> bool:
        """Waits for a reader once; one that let a second pass has none of what is said until it reads again."""
        assert self._stream
        try:
            poll = select.poll()
            poll.register(self._stream.fileno(), select.POLLOUT)
        except ValueError:
            return True  # no file
        self._read = bool(poll.poll(1000 * PATIENCE_S if self._read else 0))
        return self._read
