"""Interpreters as the tool starts them. Where a host cannot lock processes, the tests are skipped, and listed as skipped."""

import ctypes
import platform
import sys

import pytest

from router.tools.python import syscalls


def _lockable() -> bool:
    if sys.platform != "linux" or platform.machine() not in syscalls.ARCHITECTURES:
        return False
    version: int = ctypes.CDLL(None).syscall(444, None, 0, 1)  # of Landlock
    return version > 0


needs_lock = pytest.mark.skipif(not _lockable(), reason="needs Landlock and seccomp")
