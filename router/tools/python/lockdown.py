"""Locks the process that calls it, for good: files by Landlock, system calls by seccomp, memory and time by rlimits. Linux.

It needs no privilege: containers with default settings allow all of it. Knows nothing of what runs afterwards.
https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from router.tools.python import syscalls

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 1, 22, 38, 2
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CAPABILITIES = 0x20080522  # the version of capset's structures
_WRITE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""Version of Landlock -> how many rights of files it knows; each version adds some."""
_NETWORK, _SCOPES = 0b11, 0b11  # all that versions 4 and 6 know: TCP; abstract sockets and signals
_READABLE = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/lib",
    "/lib64",
    "/etc/localtime",
    "/dev/urandom",
)


class Refused(Exception):
    """This host cannot lock a process; says what is missing."""


@dataclass(frozen=True)
class Limits:
    """Bytes and seconds of one process."""

    memory: int = 512 << 20  # of address space, Python's own 30 MB included
    cpu_s: int = 600
    folder: int = 64 << 20  # of all files together, and of each
    open_files: int = 64


def lock(folder: str, limits: Limits) -> None:
    """Leaves the process: what Python can import, to read; `folder`, to read and write; threads. Raises Refused."""
    if sys.platform != "linux" or platform.machine() not in syscalls.ARCHITECTURES:
        raise Refused(
            f"python runs locked down on Linux alone, on x86_64 and aarch64, not on {sys.platform} {platform.machine()}"
        )
    libc = ctypes.CDLL(None, use_errno=True)
    _limit(limits)
    _call(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    _call(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    _restrict_files(libc, folder)
    header, none = struct.pack("=Ii", _CAPABILITIES, 0), bytes(24)
    _call(libc.capset(header, none), "capset")
    _restrict_calls(libc)


def _limit(limits: Limits) -> None:
    for kind, most in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.folder),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _restrict_files(libc: ctypes.CDLL, folder: str) -> None:
    version = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        raise Refused("python needs Landlock: Linux 5.13 or newer, with `landlock` among the kernel's security modules")
    rights = (1 << max(count for since, count in _FILE_RIGHTS.items() if since <= version)) - 1
    attributes = struct.pack("=QQQ", rights, _NETWORK if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _call(libc.syscall(_CREATE_RULESET, attributes, size, 0), "landlock_create_ruleset")
    for path in _readable():
        _allow(libc, ruleset, path, _READ_FILE | _READ_DIR)
    _allow(libc, ruleset, "/dev/null", _READ_FILE | _WRITE)
    _allow(libc, ruleset, folder, rights & ~1)  # all but to execute
    _call(libc.syscall(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def _readable() -> Iterable[str]:
    prefixes = {path for path in (sys.prefix, sys.base_prefix) if path not in ("/", "/usr", "/usr/local")}
    return (path for path in (*prefixes, *_READABLE) if os.path.exists(path))


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        kept = rights if os.path.isdir(path) else rights & ~_READ_DIR
        _call(libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", kept, opened), 0), f"landlock_add_rule({path})")
    finally:
        os.close(opened)


def _restrict_calls(libc: ctypes.CDLL) -> None:
    code = syscalls.program(platform.machine())
    kept = ctypes.create_string_buffer(code)
    described = struct.pack("@HP", len(code) // 8, ctypes.addressof(kept))
    _call(libc.prctl(_PR_SET_SECCOMP, _FILTER, described, 0, 0), "prctl(PR_SET_SECCOMP)")


def _call(result: int, what: str) -> int:
    if result < 0:
        raise Refused(f"python cannot be locked down here: {what}: {os.strerror(ctypes.get_errno())}")
    return result
