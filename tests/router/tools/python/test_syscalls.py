"""The filter, run by a small interpreter of the instructions it uses, for both machines."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.tools.python.syscalls import ARCHITECTURES, program

ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
X86, ARM = "x86_64", "aarch64"


def verdict(machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """What the kernel would do with that call."""
    audit = ARCHITECTURES[machine][1] if audit is None else audit
    words = (*arguments, *(0,) * 6)[:6]
    data = struct.pack("<IIQ6Q", number, audit, 0, *words)
    code = list(struct.iter_unpack("=HBBI", program(machine)))
    held = place = 0
    while True:
        operation, true, false, value = code[place]
        place += 1
        match operation:
            case 0x20:
                held = struct.unpack_from("<I", data, value)[0]
            case 0x54:
                held &= value
            case 0x15:
                place += true if held == value else false
            case 0x35:
                place += true if held >= value else false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"unknown instruction {operation:#x}")


@pytest.mark.parametrize(("machine", "read"), [(X86, 0), (ARM, 63)])
def test_another_machine_or_its_other_calls_end_the_process(machine: str, read: int) -> None:
    assert verdict(machine, read) == ALLOW
    assert verdict(machine, read, audit=0x40000003) == KILL  # 32-bit calls on a 64-bit machine
    assert verdict(machine, read | 0x40000000) == KILL


@pytest.mark.parametrize(
    ("name", "x86", "arm"),
    [
        ("socket", 41, 198), ("connect", 42, 203), ("bind", 49, 200), ("execve", 59, 221),
        ("execveat", 322, 281), ("fork", 57, None), ("vfork", 58, None), ("kill", 62, 129),
        ("tkill", 200, 130), ("tgkill", 234, 131), ("ptrace", 101, 117), ("mount", 165, 40),
        ("unshare", 272, 97), ("setns", 308, 268), ("bpf", 321, 280), ("io_uring_setup", 425, 425),
        ("truncate", 76, 45), ("process_vm_writev", 311, 271), ("pidfd_open", 434, 434), ("keyctl", 250, 219),
        ("memfd_create", 319, 279), ("userfaultfd", 323, 282), ("perf_event_open", 298, 241), ("chown", 92, None),
        ("fchownat", 260, 54), ("link", 86, None), ("symlinkat", 266, 36), ("mknodat", 259, 33),
        ("setuid", 105, 146), ("prctl", 157, 167), ("shmget", 29, 194),
    ],
)  # fmt: skip
def test_what_reaches_others_is_refused(name: str, x86: int, arm: int | None) -> None:
    assert verdict(X86, x86) == ERROR | errno.EPERM
    assert arm is None or verdict(ARM, arm) == ERROR | errno.EPERM


@pytest.mark.parametrize(
    ("machine", "openat", "clone", "prlimit", "socketpair", "fcntl", "ioctl"),
    [(X86, 257, 56, 302, 53, 72, 16), (ARM, 56, 220, 261, 199, 25, 29)],
)
def test_what_is_harmless_in_part_is_allowed_in_part(
    machine: str, openat: int, clone: int, prlimit: int, socketpair: int, fcntl: int, ioctl: int
) -> None:
    refused = ERROR | errno.EPERM
    o_creat, o_trunc, o_cloexec = 0o100, 0o1000, 0o2000000
    assert verdict(machine, openat, 0, 0, o_cloexec) == ALLOW
    assert verdict(machine, openat, 0, 0, 1 | o_creat | o_trunc | o_cloexec) == ALLOW
    assert verdict(machine, openat, 0, 0, o_trunc) == refused
    assert verdict(machine, clone, 0x3D0F00) == ALLOW  # a thread
    assert verdict(machine, clone, 0x1200011) == refused  # a process
    assert verdict(machine, prlimit, 0) == ALLOW
    assert verdict(machine, prlimit, 4711) == refused
    assert verdict(machine, socketpair, 1, 0o2000001) == ALLOW
    assert verdict(machine, socketpair, 1, 2) == refused  # datagrams can be sent to names
    assert verdict(machine, socketpair, 2, 1) == refused
    assert verdict(machine, fcntl, 5, 1) == ALLOW
    assert verdict(machine, fcntl, 5, 8) == verdict(machine, fcntl, 5, 10) == refused  # owner and number of a signal
    assert verdict(machine, ioctl, 5, 0x5401) == ALLOW
    assert verdict(machine, ioctl, 5, 0x8901) == ERROR | errno.ENOTTY


@given(st.sampled_from([X86, ARM]), st.integers(0, 0xFFFFFFFF), st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_every_call_has_a_verdict(machine: str, number: int, arguments: list[int]) -> None:
    assert verdict(machine, number, *arguments) in (
        ALLOW,
        KILL,
        ERROR,
        ERROR | errno.EPERM,
        ERROR | errno.ENOSYS,
        ERROR | errno.ENOTTY,
    )
