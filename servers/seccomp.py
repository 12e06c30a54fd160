"""Seccomp: which system calls a thread, and all that it starts, can make, and a listener that sees some before they are made.

In goes what the filter is to do; out comes a program for the kernel's classic BPF, which looks at the number of a call and at
its plain arguments. A call is allowed, fails with an error, or waits until whoever holds the listener has answered.

What a pointer points at is beyond a filter, and can be exchanged while the listener looks at it. So no answer here allows what
something else does not refuse: a call that waits is refused outright, or is let through to Landlock.

x86-64 and AArch64 only. Sources of the numbers: linux/seccomp.h, linux/audit.h, linux/filter.h, seccomp(2), seccomp_unotify(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
import sys
from typing import Final, NamedTuple

from . import libc

_MACHINES: Final = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}  # column below, AUDIT_ARCH_, seccomp(2)
_NONE: Final = -1  # AArch64 has no calls that newer ones have replaced
_NUMBERS: Final = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chmod": (90, _NONE),
    "clone": (56, 220),
    "clone3": (435, 435),
    "creat": (85, _NONE),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fcntl": (72, 25),
    "file_setattr": (469, 469),
    "fremovexattr": (199, 16),
    "fsetxattr": (190, 7),
    "io_uring_setup": (425, 425),
    "ioctl": (16, 29),
    "ioprio_set": (251, 30),
    "keyctl": (250, 219),
    "kill": (62, 129),
    "link": (86, _NONE),
    "linkat": (265, 37),
    "lremovexattr": (198, 15),
    "lsetxattr": (189, 6),
    "mkdir": (83, _NONE),
    "mkdirat": (258, 34),
    "mknod": (133, _NONE),
    "mknodat": (259, 33),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "open": (2, _NONE),
    "openat": (257, 56),
    "openat2": (437, 437),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "prlimit64": (302, 261),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "removexattr": (197, 14),
    "removexattrat": (466, 466),
    "rename": (82, _NONE),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "request_key": (249, 218),
    "rmdir": (84, _NONE),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "semget": (64, 190),
    "setns": (308, 268),
    "setpriority": (141, 140),
    "setxattr": (188, 5),
    "setxattrat": (463, 463),
    "shmget": (29, 194),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "symlink": (88, _NONE),
    "symlinkat": (266, 36),
    "tgkill": (234, 131),
    "tkill": (200, 130),
    "truncate": (76, 45),
    "unlink": (87, _NONE),
    "unlinkat": (263, 35),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
_COLUMN, _ARCHITECTURE, _SECCOMP = _MACHINES.get(os.uname().machine, (0, 0, 0))
# Calls that name a file. execve is not one of them: posix_spawn makes it before it returns, and so before anybody could answer.
FILES: Final = (
    *("open", "openat", "openat2", "creat", "truncate", "mkdir", "mkdirat", "mknod", "mknodat", "symlink", "symlinkat"),
    *("link", "linkat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2"),
)

MODES: Final = ("chmod", "fchmod", "fchmodat", "fchmodat2")

# --- what no command needs ----------------------------------------------------------------------------------------------------

_REFUSED: Final = {
    # Programs try these and go on without, as they do on kernels that are older than these calls.
    "io_uring_setup": errno.ENOSYS,  # opens files and makes sockets where no filter looks
    "clone3": errno.ENOSYS,  # its flags are behind a pointer; the C library takes `clone` then
    "pidfd_send_signal": errno.ENOSYS,  # the process that it means cannot be seen from here
    # Reading and changing other processes of the same user. Landlock has its say first, where there is Landlock.
    "ptrace": errno.EPERM,
    "process_vm_readv": errno.EPERM,
    "process_vm_writev": errno.EPERM,
    "pidfd_getfd": errno.EPERM,
    # Keys, which a command shares with whoever started the server.
    "add_key": errno.EPERM,
    "keyctl": errno.EPERM,
    "request_key": errno.EPERM,
    # Parts of the kernel that are large, often wrong, and of use to debuggers and administrators.
    "bpf": errno.EPERM,
    "perf_event_open": errno.EPERM,
    "userfaultfd": errno.EPERM,
    "setns": errno.EPERM,
    # Landlock looks at none of these, and some say who may read a file, as chmod does. Programs find no such attributes.
    **dict.fromkeys(("setxattr", "lsetxattr", "fsetxattr", "setxattrat"), errno.EOPNOTSUPP),
    **dict.fromkeys(("removexattr", "lremovexattr", "fremovexattr", "removexattrat", "file_setattr"), errno.EOPNOTSUPP),
    # Memory and queues that outlive every process that knows them.
    "mq_open": errno.EPERM,
    "msgget": errno.EPERM,
    "semget": errno.EPERM,
    "shmget": errno.EPERM,
}
_SIGNALS: Final = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
_OF_ANY_PROCESS: Final = ("prlimit64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler")
_NAMESPACES: Final = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_NEWTIME: Final = 0x80  # in unshare alone; clone has the signal there
_F_SETOWN: Final = (8, 15)  # and F_SETOWN_EX
_REFUSED_IOCTLS: Final = (0x8901, 0x8902, 0x5412, 0x541C)  # FIOSETOWN, SIOCSPGRP, and typing on a terminal: TIOCSTI, TIOCLINUX
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_STREAM, _SEQPACKET = 1, 5
_SOCKET_TYPE: Final = 0xF  # above it are SOCK_CLOEXEC and SOCK_NONBLOCK

# --- the program --------------------------------------------------------------------------------------------------------------

_LOAD, _AND, _IF_EQUAL, _IF_NOT_BELOW, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06  # BPF_LD | BPF_W | BPF_ABS, and so on
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data; the low half of an argument comes first
_X32: Final = 0x40000000  # numbers of x86-64's other convention, which would pass by all that is checked here

Code = list[tuple[int, int, int, int]]  # struct sock_filter: code, how many to skip if true, if false, value


def _return(value: int) -> Code:
    return [(_RETURN, 0, 0, value)]


def _fail(number: int) -> Code:
    return _return(0x00050000 | number)  # SECCOMP_RET_ERRNO


_ALLOW: Final = _return(0x7FFF0000)
_NOTIFY: Final = _return(0x7FC00000)
_EPERM: Final = _fail(errno.EPERM)
_EACCES: Final = _fail(errno.EACCES)


def _argument(index: int, values: tuple[int, ...], met: Code, otherwise: Code, mask: int = 0xFFFFFFFF) -> Code:
    """Do `met` if the argument is one of `values`: int, as all of these arguments are in the kernel."""
    code = [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * index), (_AND, 0, 0, mask)]
    for value in values:
        code += [(_IF_EQUAL, 0, len(met), value & 0xFFFFFFFF), *met]
    return code + otherwise


def _sockets(network: bool, listen: bool) -> dict[str, Code]:
    """No socket that has an address, but pairs. One that may be had is of the internet, with `network`.

    A socket file belongs to a service of this machine, Docker or D-Bus, that acts for whoever connects. Harmless programs try
    nscd, so this refusal is a quiet one. A pair of datagram sockets can send to any socket file: pairs are of the other types.
    """
    wanted = (_AF_INET, _AF_INET6, _AF_NETLINK) if network else ()  # the C library asks NETLINK which addresses there are
    others = _fail(errno.EAFNOSUPPORT) if network else _NOTIFY if listen else _EACCES
    return {
        "socket": _argument(0, (_AF_UNIX,), _EACCES, _argument(0, wanted, _ALLOW, others)),
        "socketpair": _argument(1, (_STREAM, _SEQPACKET), _ALLOW, _EACCES, _SOCKET_TYPE),
    }


def _processes(keeper: tuple[int, int]) -> dict[str, Code]:
    """No harm to processes of the same user, least of all to the keeper, whose process and spawning thread are `keeper`.

    That thread is in the command's own sandbox, so that Landlock would let the command kill it, and the keeper with it.
    """
    only_itself = _argument(1, (0,), _ALLOW, _EPERM)
    return {
        **dict.fromkeys(_SIGNALS, _argument(0, keeper, _EPERM, _ALLOW)),
        "fcntl": _argument(1, _F_SETOWN, _EPERM, _ALLOW),  # whom the kernel sends a signal, SIGKILL too, when a file is ready
        "ioctl": _argument(1, _REFUSED_IOCTLS, _EPERM, _ALLOW),
        **dict.fromkeys(_OF_ANY_PROCESS, _argument(0, (0,), _ALLOW, _EPERM)),
        "setpriority": _argument(0, (0,), only_itself, _EPERM),  # PRIO_PROCESS
        "ioprio_set": _argument(0, (1,), only_itself, _EPERM),  # IOPRIO_WHO_PROCESS
        "clone": _argument(0, (0,), _ALLOW, _EPERM, _NAMESPACES),  # a namespace gives capabilities, inside of it
        "unshare": _argument(0, (0,), _ALLOW, _EPERM, _NAMESPACES | _NEWTIME),
    }


def program(*, network: bool, files: bool, modes: bool, listen: bool, keeper: tuple[int, int]) -> bytes:
    """Return the filter, an array of `struct sock_filter`.

    With `listen`, an attempt to reach the network waits for the listener, and so does with `files` each call that names a file,
    and with `modes` each one that changes who may use it. Without a listener these would fail with ENOSYS.
    """
    rules = {name: _fail(number) for name, number in _REFUSED.items()} | _processes(keeper) | _sockets(network, listen)
    if listen:
        rules |= dict.fromkeys((*FILES * files, *MODES * modes), _NOTIFY)
    code: Code = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        *((_IF_EQUAL, 1, 0, _ARCHITECTURE), *_fail(errno.ENOSYS)),
        (_LOAD, 0, 0, _NUMBER_AT),
        *((_IF_NOT_BELOW, 0, 1, _X32), *_fail(errno.ENOSYS)),
    ]
    for name, then in rules.items():
        if (number := _NUMBERS[name][_COLUMN]) != _NONE:
            code += [(_IF_EQUAL, 0, len(then), number), *then]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code + _ALLOW)


# --- the kernel ---------------------------------------------------------------------------------------------------------------

_SET_MODE_FILTER, _GET_ACTION_AVAIL = 1, 2
_NEW_LISTENER, _WAIT_KILLABLE_RECV = 1 << 3, 1 << 5  # the latter: 5.19 and newer


def _seccomp(operation: int, flags: int, argument: bytes) -> int:
    return libc.checked(libc.LIBRARY.syscall(_SECCOMP, operation, flags, argument))


def available() -> bool:
    """Tell whether the kernel has filters with listeners (Linux 5.0), on a machine that is known here."""
    if sys.platform != "linux" or not _SECCOMP or sys.maxsize < 1 << 32:
        return False
    try:
        _seccomp(_GET_ACTION_AVAIL, 0, struct.pack("I", _NOTIFY[0][3]))
    except OSError:
        return False
    return True


def install(filter_program: bytes, *, listen: bool) -> int:
    """Hold the calling thread, and what it starts, to the program for good; return the listener's descriptor, or 0.

    Raise OSError: EBUSY if there is a listener already, of the container that this runs in; EACCES without no-new-privs.
    """
    array = ctypes.create_string_buffer(filter_program, len(filter_program))
    argument = struct.pack("HxxxxxxP", len(filter_program) // 8, ctypes.addressof(array))  # struct sock_fprog
    if not listen:
        return _seccomp(_SET_MODE_FILTER, 0, argument)
    try:
        # Signals that do not kill wait for the answer: a call that they interrupt would be made twice.
        listener = _seccomp(_SET_MODE_FILTER, _NEW_LISTENER | _WAIT_KILLABLE_RECV, argument)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        listener = _seccomp(_SET_MODE_FILTER, _NEW_LISTENER, argument)
    with contextlib.suppress(OSError):  # 6.6 and newer: both sides run in turn, on one processor
        fcntl.ioctl(listener, _SET_FLAGS, 1)  # SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
    return listener


# --- the listener -------------------------------------------------------------------------------------------------------------

_RECV, _SEND, _ID_VALID, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082102, 0x40082104  # SECCOMP_IOCTL_NOTIF_
_NOTIFICATION: Final = struct.Struct("QIIiIQ6Q")  # struct seccomp_notif
_RESPONSE: Final = struct.Struct("QqiI")  # struct seccomp_notif_resp
_CONTINUE: Final = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE


_NAMES: Final = {numbers[_COLUMN]: name for name, numbers in _NUMBERS.items()}


class Attempt(NamedTuple):
    """A call that waits for its answer."""

    cookie: int
    thread: int
    call: str
    arguments: tuple[int, ...]  # as the processor has them: 64 bits, unsigned


def receive(listener: int) -> Attempt | None:
    """Take what `listener` has become readable for; None if the process has been killed meanwhile."""
    buffer = bytearray(_NOTIFICATION.size)
    try:
        _ioctl(listener, _RECV, buffer)
    except FileNotFoundError:
        return None
    cookie, thread, _, number, _, _, *arguments = _NOTIFICATION.unpack(buffer)
    return Attempt(cookie, thread, _NAMES[number], tuple(arguments))


def waits(listener: int, attempt: Attempt) -> bool:
    """Tell whether the process is still there: if so, what was read of its memory since `receive` was its own."""
    try:
        _ioctl(listener, _ID_VALID, struct.pack("Q", attempt.cookie))
    except OSError:
        return False
    return True


def let_pass(listener: int, attempt: Attempt) -> None:
    """Make the call, with all that the kernel checks otherwise."""
    _send(listener, _RESPONSE.pack(attempt.cookie, 0, 0, _CONTINUE))


def refuse(listener: int, attempt: Attempt, number: int) -> None:
    """Let the call fail with the error `number`."""
    _send(listener, _RESPONSE.pack(attempt.cookie, 0, -number, 0))


def _send(listener: int, response: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):  # killed meanwhile
        _ioctl(listener, _SEND, response)


def _ioctl(listener: int, request: int, argument: bytes | bytearray) -> None:
    while True:
        try:
            fcntl.ioctl(listener, request, argument)
        except InterruptedError:  # Python tries most calls again after a signal, but not this one
            continue
        return
