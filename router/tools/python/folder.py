"""An interpreter's folder, seen from outside: how much is in it, and its end, whatever the code made of it. Linux.

Code can nest folders deeper than any path reaches, make ones that not even their owner may list, and keep files that have no
name any more, open or mapped into its memory.
"""

import os
import secrets
import stat
from collections.abc import Iterator, Sequence

_DEEPEST = 64  # folders within folders


class Hidden(Exception):
    """Some of what is there cannot be counted."""


def sizes(folder: str, pid: int) -> Iterator[int]:
    """Bytes of each file and folder in it, one after the other, those without a name that the process holds included.

    What vanishes meanwhile is left out. Raises Hidden.
    """
    pending = [(folder, 0)]
    try:
        while pending:
            place, depth = pending.pop()
            for name in _names(place):
                path = f"{place}/{name}"
                found = _found(path)
                if stat.S_ISDIR(found.st_mode):
                    pending.append((path, depth + 1))
                yield found.st_size
            if depth > _DEEPEST:
                raise Hidden
        yield from _unnamed(folder, pid)
    except OSError:
        raise Hidden from None


def remove(folder: str) -> None:
    """Ends it, when nobody writes into it any more. What lies deep is moved up first, so that depth does not matter."""
    while names := _names(folder):
        for name in names:
            path = f"{folder}/{name}"
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                os.unlink(path)
                continue
            os.chmod(path, stat.S_IRWXU)
            for inner in _names(path):
                if stat.S_ISDIR(os.lstat(f"{path}/{inner}").st_mode):
                    os.chmod(f"{path}/{inner}", stat.S_IRWXU)  # else not even its owner may move it
                os.rename(f"{path}/{inner}", f"{folder}/{secrets.token_hex(16)}")
            os.rmdir(path)
    os.rmdir(folder)


def _names(place: str) -> Sequence[str]:
    try:
        return os.listdir(place)
    except FileNotFoundError:
        return ()


def _found(path: str) -> os.stat_result:
    """Nothing, where there is nothing any more."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return os.stat_result([0] * 10)


def _unnamed(folder: str, pid: int) -> Iterator[int]:
    for number in _names(f"/proc/{pid}/fd"):
        try:
            found = os.stat(f"/proc/{pid}/fd/{number}")
        except FileNotFoundError:
            continue
        if stat.S_ISREG(found.st_mode) and not found.st_nlink:
            yield found.st_size
    try:
        with open(f"/proc/{pid}/maps", "rb") as maps:
            if any(f" {folder}/".encode() in line and line.endswith(b" (deleted)\n") for line in maps):
                raise Hidden  # a page of a file keeps all of it
    except (FileNotFoundError, ProcessLookupError):
        return
