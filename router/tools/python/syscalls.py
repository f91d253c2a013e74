"""Which system calls the model's code may make, as a seccomp filter (BPF). Knows their numbers on two machines, no more.

Whatever is not in these tables fails with EPERM: no sockets, no processes, no signals to others, no mounts, no keys.
https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import errno
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine -> its column in the tables, and what the kernel calls it (linux/audit.h)."""

_ALLOWED = """
brk:12:214 mmap:9:222 munmap:11:215 mprotect:10:226 mremap:25:216 madvise:28:233
read:0:63 write:1:64 readv:19:65 writev:20:66 pread64:17:67 pwrite64:18:68 lseek:8:62 close:3:57 fstat:5:80
newfstatat:262:79 stat:4: lstat:6: statx:332:291 access:21: faccessat:269:48 faccessat2:439:439 readlink:89:
readlinkat:267:78 getdents64:217:61 getcwd:79:17 chdir:80:49 fchdir:81:50 mkdir:83: mkdirat:258:34 rmdir:84: unlink:87:
unlinkat:263:35 rename:82: renameat:264:38 renameat2:316:276 ftruncate:77:46 fsync:74:82 fdatasync:75:83 dup:32:23
dup2:33: dup3:292:24 pipe:22: pipe2:293:59 flock:73:32 fadvise64:221:223 sendfile:40:71 copy_file_range:326:285
umask:95:166 statfs:137:43 fstatfs:138:44
clock_gettime:228:113 clock_getres:229:114 clock_nanosleep:230:115 nanosleep:35:101 gettimeofday:96:169 time:201:
times:100:153 getrusage:98:165 setitimer:38:103 getitimer:36:102 alarm:37:
rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 sigaltstack:131:132 restart_syscall:219:128
futex:202:98 set_robust_list:273:99 rseq:334:293 sched_yield:24:124 sched_getaffinity:204:123 gettid:186:178
set_tid_address:218:96 arch_prctl:158: membarrier:324:283 getcpu:309:168 exit:60:93 exit_group:231:94
getpid:39:172 getppid:110:173 getuid:102:174 geteuid:107:175 getgid:104:176 getegid:108:177 getgroups:115:158
getresuid:118:148 getresgid:120:150 getpgrp:111: getpgid:121:155 getsid:124:156 uname:63:160 sysinfo:99:179
getrlimit:97:163 getrandom:318:278
poll:7: ppoll:271:73 select:23: pselect6:270:72 epoll_create1:291:20 epoll_ctl:233:21 epoll_wait:232:
epoll_pwait:281:22 eventfd2:290:19 sendto:44:206 recvfrom:45:207 shutdown:48:210
"""
"""name:number on x86_64:number on aarch64, empty where there is none."""

_IGNORED = "chmod:90: fchmod:91:52 fchmodat:268:53 utimensat:280:88"
"""Succeed and do nothing: Landlock does not guard modes and times, and libraries that copy files insist on them."""

_ABSENT = "clone3:435:435 openat2:437:437"
"""Fail as on older kernels: their arguments are in memory, where no filter can look, and there are older calls."""


@dataclass(frozen=True)
class _Check:
    """Allowed where each of these arguments, masked, is one of the values; an error otherwise."""

    call: str
    arguments: tuple[tuple[int, int, tuple[int, ...]], ...]
    error: int = errno.EPERM


_ALL = 0xFFFFFFFF
_O_ACCMODE, _O_TRUNC = 0o3, 0o1000
_OPENED = (
    _O_ACCMODE | _O_TRUNC,
    (0, 1, 2, 1 | _O_TRUNC, 2 | _O_TRUNC),
)  # not: to read, and truncated, which old Landlocks allow
_CHECKED = (
    _Check("openat:257:56", ((2, *_OPENED),)),
    _Check("open:2:", ((1, *_OPENED),)),
    _Check("clone:56:220", ((0, 0x10000, (0x10000,)),)),  # threads
    _Check("prlimit64:302:261", ((0, _ALL, (0,)),)),  # its own
    _Check("socketpair:53:199", ((0, _ALL, (1,)), (1, 0xFF, (1,)))),  # of UNIX streams, which event loops wake up by
    _Check("fcntl:72:25", ((1, _ALL, (0, 1, 2, 3, 4, 5, 6, 7, 1030)),)),  # nothing that makes the kernel send signals
    _Check("ioctl:16:29", ((1, _ALL, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),), errno.ENOTTY),
)

_LD, _JEQ, _JGE, _AND, _RET = 0x20, 0x15, 0x35, 0x54, 0x06
_NUMBER, _MACHINE = 0, 4  # offsets in struct seccomp_data; arguments follow at 16, eight bytes each
_KILL, _ALLOW, _ERROR = 0x80000000, 0x7FFF0000, 0x00050000
_X32 = 0x40000000  # x86_64's calls of another kind; no number of aarch64 comes near

_Instruction = tuple[int, int, int, int]


def program(machine: str) -> bytes:
    """The filter, as the kernel's array of `struct sock_filter`. `machine` is a key of ARCHITECTURES."""
    column, audit = ARCHITECTURES[machine]
    code: list[_Instruction] = [
        (_LD, 0, 0, _MACHINE),
        (_JEQ, 1, 0, audit),
        (_RET, 0, 0, _KILL),
        (_LD, 0, 0, _NUMBER),
        (_JGE, 0, 1, _X32),
        (_RET, 0, 0, _KILL),
    ]
    for calls, verdict in ((_ALLOWED, _ALLOW), (_IGNORED, _ERROR), (_ABSENT, _ERROR | errno.ENOSYS)):
        for number in _numbers(calls.split(), column):
            code += [(_JEQ, 0, 1, number), (_RET, 0, 0, verdict)]
    for check in _CHECKED:
        for number in _numbers([check.call], column):
            body = _checked(check)
            code += [(_JEQ, 0, len(body), number), *body]
    code.append((_RET, 0, 0, _ERROR | errno.EPERM))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _numbers(calls: Sequence[str], column: int) -> Iterator[int]:
    for call in calls:
        if number := call.split(":")[1 + column]:
            yield int(number)


def _checked(check: _Check) -> list[_Instruction]:
    code: list[_Instruction] = []
    for argument, mask, values in check.arguments:
        code += [(_LD, 0, 0, 16 + 8 * argument), (_AND, 0, 0, mask)]
        code += [(_JEQ, len(values) - index, 0, value) for index, value in enumerate(values)]
        code.append((_RET, 0, 0, _ERROR | check.error))
    return [*code, (_RET, 0, 0, _ALLOW)]
