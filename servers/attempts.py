"""What commands in the sandbox attempt to do with files: which attempt is refused, so that it can be named.

In go the places that are granted, and a system call that waits (`seccomp.Attempt`), whose path is read from the memory of the
thread that makes it; out comes "read" or "write" if the kernel is going to refuse it. That names what Landlock refuses and
refuses nothing: by the time that the kernel looks, the path may be another one. With chmod, of which Landlock knows nothing, it
is otherwise: it is done here, to what was looked at.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from typing import Final

from . import landlock, libc, seccomp

PATH_MAX: Final = 4096  # limits.h, with the NUL
KNOWN_MAX: Final = (
    4096  # paths that were found to be fine: a build's worth, and 2 MB at most if they are as long as they can be
)

# Where in a call's arguments these are: the directory that the path is relative to (None: the working directory), the path.
_OPENS: Final = {"open": (None, 0), "creat": (None, 0), "openat": (0, 1), "openat2": (0, 1)}
_NEW, _OLD, _ANY, _ITSELF = "new", "old", "any", "itself"  # whether the name has to be there, or what it names changes
_CHANGES: Final = {
    "truncate": ((None, 0, _ITSELF),),
    **dict.fromkeys(("mkdir", "mknod"), ((None, 0, _NEW),)),
    **dict.fromkeys(("mkdirat", "mknodat"), ((0, 1, _NEW),)),
    **dict.fromkeys(("symlink", "link"), ((None, 1, _NEW),)),
    "symlinkat": ((1, 2, _NEW),),
    "linkat": ((2, 3, _NEW),),
    **dict.fromkeys(("unlink", "rmdir"), ((None, 0, _OLD),)),
    "unlinkat": ((0, 1, _OLD),),
    "rename": ((None, 0, _OLD), (None, 1, _ANY)),
    **dict.fromkeys(("renameat", "renameat2"), ((0, 1, _OLD), (2, 3, _ANY))),
}
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_OWN: Final = (  # where a path means the process that uses it, and not the one that looks at it here
    (b"/proc/self", b"/proc/%d"),
    (b"/proc/thread-self", b"/proc/%d"),
    (b"/dev/fd", b"/proc/%d/fd"),
    (b"/dev/stdin", b"/proc/%d/fd/0"),
    (b"/dev/stdout", b"/proc/%d/fd/1"),
    (b"/dev/stderr", b"/proc/%d/fd/2"),
)


class Grants:
    """What is granted, by name: enough to say what the kernel refuses, not to refuse it."""

    def __init__(self) -> None:
        self._readable: tuple[bytes, ...] = ()
        self._writable: tuple[bytes, ...] = ()
        self._changeable: tuple[bytes, ...] = ()
        self._known: set[tuple[bytes, bool]] = set()
        self._memory = _Memory()
        self.refused = b""  # the last place that was

    def add(self, path: str, rights: int) -> None:
        root = os.fsencode(path).rstrip(b"/") + b"/"
        self._readable += (root,)
        if rights != landlock.READ:
            self._writable += (root,)
        if rights == landlock.WRITE:
            self._changeable += (root,)

    def refuses(self, attempt: seccomp.Attempt) -> str:
        """Return "read" or "write" if the call is going to be refused; raise OSError if it is going to fail otherwise."""
        if attempt.call in _OPENS:
            return self._refuses_open(attempt)
        for directory, path, kind in _CHANGES[attempt.call]:
            if not self._covers(_changed(self._name(attempt, directory, path), kind), write=True):
                return "write"
        return ""

    def _refuses_open(self, attempt: seccomp.Attempt) -> str:
        flags = self._flags(attempt)
        write = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC))
        name = self._name(attempt, *_OPENS[attempt.call])
        if flags & os.O_PATH or (name, write) in self._known:
            return ""
        place, write = _opened(name, flags, write)
        if not self._covers(place, write):
            return "write" if write else "read"
        self._remember(name, write)
        return ""

    def change_mode(self, attempt: seccomp.Attempt) -> tuple[int, str]:
        """Do what chmod and the like ask for, as the command could; return an error or 0, and "write" if it is refused here.

        It is done to what was looked at, whatever its name leads to by now, and only to files of the command's own user: who
        does it here may be root with all capabilities, unlike the command.
        """
        directory, path = {"chmod": (None, 0), "fchmod": (None, None)}.get(attempt.call, (0, 1))
        arguments, nofollow = attempt.arguments, 0
        if attempt.call == "fchmodat2" and arguments[3] & _AT_SYMLINK_NOFOLLOW:
            nofollow = os.O_NOFOLLOW
        try:
            name = b"/proc/%d/fd/%d" % (attempt.thread, arguments[0]) if path is None else self._name(attempt, directory, path)
            held = os.open(name, os.O_PATH | nofollow)
        except OSError as error:
            return errno.EBADF if path is None else error.errno or errno.EPERM, ""
        try:
            place = os.readlink(b"/proc/self/fd/%d" % held)
            if not (place + b"/").startswith(self._changeable) and place.startswith(b"/"):
                self.refused = place
                return errno.EACCES, "write"
            _change_mode(held, arguments[1 if path is None else path + 1] & 0o7777)
        except OSError as error:
            return error.errno or errno.EPERM, ""
        finally:
            os.close(held)
        return 0, ""

    def _flags(self, attempt: seccomp.Attempt) -> int:
        if attempt.call == "creat":
            return os.O_CREAT | os.O_WRONLY | os.O_TRUNC
        if attempt.call == "openat2":  # struct open_how begins with them
            return int.from_bytes(self._memory.read(attempt.thread, attempt.arguments[2], 8), sys.byteorder)
        return attempt.arguments[_OPENS[attempt.call][1] + 1] & 0xFFFFFFFF

    def _name(self, attempt: seccomp.Attempt, directory: int | None, path: int) -> bytes:
        """Return the path that the call names, from / on, such that it leads from here where it leads the thread."""
        thread, name = attempt.thread, self._memory.text(attempt.thread, attempt.arguments[path])
        if not name.startswith(b"/"):
            descriptor = ctypes.c_int(attempt.arguments[directory]).value if directory is not None else -1
            start = os.readlink(b"/proc/%d/fd/%d" % (thread, descriptor) if descriptor >= 0 else b"/proc/%d/cwd" % thread)
            name = start + b"/" + name
            if not name.startswith(b"/"):  # a pipe, say
                raise libc.oserror(errno.ENOTDIR)
        if name.startswith((b"/proc/", b"/dev/")):
            for own, of_thread in _OWN:
                if name == own or name.startswith(own + b"/"):
                    return of_thread % thread + name[len(own) :]
        return name

    def _remember(self, name: bytes, write: bool) -> None:
        """Spare the next one who opens the same the search: most of what programs open are the same few libraries."""
        if not name.startswith((b"/proc/", b"/dev/")):
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known.add((name, write))

    def _covers(self, place: bytes, write: bool) -> bool:
        if not place.startswith(b"/") or place.startswith(b"/memfd:"):
            return True  # a pipe or memory, opened again by /proc/self/fd; Landlock knows of files only
        if place == b"/dev/tty":
            return True  # refused, but every shell tries it first of all: a report that always says so says nothing
        if (place + b"/").startswith(self._writable if write else self._readable):
            return True
        self.refused = place
        return False


def _change_mode(held: int, mode: int) -> None:
    status = os.fstat(held)
    if status.st_uid != os.geteuid():
        raise libc.oserror(errno.EPERM)
    if status.st_gid not in (os.getegid(), *os.getgroups()):
        mode &= ~stat.S_ISGID  # as the kernel does without CAP_FSETID
    os.chmod(b"/proc/self/fd/%d" % held, mode)


def _opened(name: bytes, flags: int, write: bool) -> tuple[bytes, bool]:
    """Return what open(2) comes to, or the directory where it makes a file, and whether this writes."""
    try:
        place = _place(name, flags & (os.O_NOFOLLOW | os.O_DIRECTORY))
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
        return _place(os.path.dirname(name), os.O_DIRECTORY), True
    if flags & os.O_CREAT and flags & os.O_EXCL:
        raise libc.oserror(errno.EEXIST)
    return place, write


def _changed(name: bytes, kind: str) -> bytes:
    """Return the directory in which the name is made or removed, or the file if it is that which changes."""
    if kind == _ITSELF:
        return _place(name, 0)
    name = name.rstrip(b"/")
    if kind == _OLD:
        _place(name, os.O_NOFOLLOW)
    elif kind == _NEW and os.path.lexists(name):
        raise libc.oserror(errno.EEXIST)
    return _place(os.path.dirname(name), os.O_DIRECTORY)


def _place(name: bytes, flags: int) -> bytes:
    """Return the path without links of what `name` leads to. Nothing is opened by this, and nothing waits."""
    held = os.open(name or b"/", flags | os.O_PATH)
    try:
        return os.readlink(b"/proc/self/fd/%d" % held)
    finally:
        os.close(held)


class _Vector(ctypes.Structure):
    """`struct iovec` of process_vm_readv(2)."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Memory:
    """The memory of threads that wait for an answer. What it reads with is made once: that is half of what it costs."""

    _ONE, _NO_FLAGS = ctypes.c_ulong(1), ctypes.c_ulong(0)

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(PATH_MAX)
        self._here, self._there = _Vector(ctypes.addressof(self._buffer), PATH_MAX), _Vector()
        self._vectors = ctypes.byref(self._here), self._ONE, ctypes.byref(self._there), self._ONE, self._NO_FLAGS

    def read(self, thread: int, address: int, size: int) -> bytes:
        """Return `size` bytes at `address`, or fewer where memory ends; raise OSError if there are none."""
        self._there.base, self._there.size = address, size
        read = libc.checked(libc.LIBRARY.process_vm_readv(thread, *self._vectors))
        return self._buffer.raw[:read]

    def text(self, thread: int, address: int) -> bytes:
        """Return the path at `address`; raise OSError, as the kernel does, if there is none or if it has no end."""
        text, end, _ = self.read(thread, address, PATH_MAX).partition(b"\0")
        if not text or not end:
            raise libc.oserror(errno.ENOENT)
        return text
