"""Opening a path beneath a directory: links are followed, and nothing outside of the directory is reached.

In go a descriptor of the directory, a relative path and the flags of open(2); out comes a descriptor, or an OSError. EXDEV says
that the path leads outside, by a link that is absolute or has too many "..", whether or not there is something where it leads.
ELOOP says that there are too many links, or one of /proc that is no text but a door (/proc/self/fd/3).

There are two ways with the same outcomes. `kernel` is one call of openat2(2), Linux 5.6 or newer, that no rename can deceive.
`walk` does it part by part, as that call is described, and holds each directory on the way: ".." is the one that it came from,
wherever that has been moved meanwhile, and so never above the first. Comparing `realpath` with a prefix costs five times as
much as `kernel`, and what it compared can be exchanged before it is opened.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import stat
from collections.abc import Callable
from typing import Final

from . import libc

Opener = Callable[[int, bytes, int], int]

TRIES: Final = 128  # while others rename, the kernel gives up at a ".." rather than be wrong: 4 times in 100 at worst, measured
LINKS_MAX: Final = 40  # MAXSYMLINKS of the kernel

_OPENAT2: Final = 437  # the number of the call on every machine but Alpha
_BENEATH: Final = 0x08 | 0x02  # RESOLVE_BENEATH, and RESOLVE_NO_MAGICLINKS, which it need not always mean as it does today
_HOLD: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC  # looks at what is there, even at a link, and opens no device


class _How(ctypes.Structure):
    """`struct open_how` of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


# The C library has no function for it until glibc 2.43. Plain integers travel as int; declaring the types costs 1 us a call.
_syscall = libc.LIBRARY.syscall
_NUMBER: Final = ctypes.c_long(_OPENAT2)
_SIZE: Final = ctypes.c_size_t(ctypes.sizeof(_How))


@functools.cache
def _how(flags: int) -> object:
    return ctypes.byref(_How(flags | os.O_CLOEXEC, 0, _BENEATH))


def opener(directory: int) -> Opener:
    """Return the way to open what is beneath `directory`: `kernel` where the kernel has that call, `walk` elsewhere."""
    try:
        os.close(kernel(directory, b".", os.O_PATH))
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):  # EPERM is how old filters of containers refuse what is new
            raise
        return walk
    return kernel


def kernel(directory: int, path: bytes, flags: int) -> int:
    """Return a descriptor of `path`, which has no NUL; raise OSError, EAGAIN if others rename all the time."""
    how = _how(flags)
    for _ in range(TRIES):
        descriptor: int = _syscall(_NUMBER, directory, path, how, _SIZE)
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise libc.oserror(number)


def walk(directory: int, path: bytes, flags: int) -> int:
    """Do what `kernel` does, in steps.

    Without O_PATH a file is looked at first and then opened by its name: what is there by then, ELOOP if that is a link.
    A directory that may be read and not searched is EACCES here.
    """
    held = [os.open(b".", _HOLD, dir_fd=directory)]
    try:
        last = _descend(held, path)
        if flags & os.O_PATH and not flags & os.O_DIRECTORY:
            return held.pop()
        if flags & os.O_DIRECTORY or stat.S_ISDIR(os.fstat(held[-1]).st_mode):
            return os.open(b".", flags, dir_fd=held[-1])
        return os.open(last, flags | os.O_NOFOLLOW, dir_fd=held[-2])
    finally:
        for descriptor in held:
            os.close(descriptor)


def _descend(held: list[int], path: bytes) -> bytes:
    """Put what `path` leads to on top of `held`, above the directories that it goes through; return its last part."""
    parts = _parts(path)[::-1]
    links = 0
    while parts:
        part = parts.pop()
        if part in (b"", b".", b".."):
            _stay_or_climb(held, part)
            continue
        held.append(os.open(part, _HOLD, dir_fd=held[-1]))
        if stat.S_ISLNK(os.fstat(held[-1]).st_mode):
            links += 1
            if links > LINKS_MAX:
                raise libc.oserror(errno.ELOOP)
            parts += _parts(_target(held.pop()))[::-1]
    return part


def _stay_or_climb(held: list[int], part: bytes) -> None:
    os.stat(b".", dir_fd=held[-1])  # ENOTDIR for what is no directory, EACCES for one that may not be searched
    if part == b"..":
        if len(held) == 1:
            raise libc.oserror(errno.EXDEV)
        os.close(held.pop())


def _target(link: int) -> bytes:
    """Close `link`, and return where it leads."""
    try:
        return os.readlink(b"", dir_fd=link)  # of what was looked at, not of what has its name now
    finally:
        os.close(link)


def _parts(path: bytes) -> list[bytes]:
    if path.startswith(b"/"):
        raise libc.oserror(errno.EXDEV)
    return path.split(b"/")
