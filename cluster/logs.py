"""`ossia logs`: the JSON lines of all processes of an instance, merged by time; with -f also those still to come."""

import heapq
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from cluster.state import Folder
from ossia.common.errors import UserError

POLL_S = 0.2  # appended bytes raise no event that Python's standard library can wait for


class Tail:
    """The lines that one file gained since it was last read."""

    def __init__(self, file: Path) -> None:
        self._stream = file.open(encoding="utf-8", errors="replace")
        self.inode = os.fstat(self._stream.fileno()).st_ino
        self._rest = ""  # of a line that is still being written

    def lines(self) -> list[str]:
        file = self._stream.fileno()
        if os.fstat(file).st_size < os.lseek(file, 0, os.SEEK_CUR):  # it was cut short, and begins anew
            self._stream.seek(0)
            self._rest = ""
        *lines, self._rest = (self._rest + self._stream.read()).split("\n")
        return [line for line in lines if line]

    def close(self) -> None:
        self._stream.close()


class Logs:
    """A folder of log files, some of which may appear or be replaced by a new run's while it is read."""

    def __init__(self, folder: Path, part: str | None) -> None:
        self._folder = folder
        self._part = part
        self._tails: dict[Path, Tail] = {}
        self.parts: set[str] = set()  # seen so far

    def read(self) -> Iterator[str]:
        """What was written since the last call, merged by time."""
        self._look()
        batches = [sorted(self._records(tail), key=_time) for tail in self._tails.values()]
        for _, line in heapq.merge(*batches, key=_time):
            yield line

    def close(self) -> None:
        for tail in self._tails.values():
            tail.close()

    def _look(self) -> None:
        for file in sorted(self._folder.glob("*.jsonl")):
            tail = self._tails.get(file)
            with suppress(FileNotFoundError):  # it may have gone since it was listed
                if tail is None or tail.inode != file.stat().st_ino:
                    self._tails[file] = Tail(file)
                    if tail:
                        tail.close()

    def _records(self, tail: Tail) -> Iterator[tuple[str, str]]:
        """(time, line) of the part asked for. What is no JSON takes the time of the line before it."""
        stamp, wanted = "", True
        for line in tail.lines():
            record = _parse(line)
            if record:
                stamp, part = str(record.get("time", stamp)), str(record.get("part", ""))
                self.parts.add(part)
                wanted = self._part is None or part == self._part or part.startswith(f"{self._part}/")
            if wanted:
                yield stamp, line


def show(name: str, part: str | None, follow: bool, out: TextIO) -> None:
    """Prints the logs of the instance's last run; with `follow`, for ever. Raises UserError where there are none."""
    folder = Folder(name)
    if not folder.logs.is_dir() and not follow:
        raise UserError(f"there are no logs of an instance '{name}'; start it with `ossia serve`")
    logs = Logs(folder.logs, part)
    try:
        printed = _print(logs, out)
        while follow:
            time.sleep(POLL_S)
            printed += _print(logs, out)
    finally:
        logs.close()
    if part and not printed:
        raise UserError(f"no logs of '{part}'; parts: {', '.join(sorted(logs.parts)) or 'none'}")


def _print(logs: Logs, out: TextIO) -> int:
    count = 0
    for count, line in enumerate(logs.read(), 1):  # noqa: B007
        out.write(line + "\n")
    out.flush()
    return count


def _time(record: tuple[str, str]) -> str:
    return record[0]


def _parse(line: str) -> dict[str, object]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
