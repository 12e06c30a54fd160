"""Files that are on their way, on either side: locked by whoever writes them, under a name that only tells what they will be.

The lock (flock) ends with the process that holds it, however that ends, and keeps out other processes as well.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Sequence
from typing import Final

from . import placing
from .errors import OperationError

OPEN_TRIES: Final = 100  # each is lost to somebody who ended the same file in that moment
IOV_MAX: Final = 1024  # buffers that the kernel takes at once: limits.h of Linux, macOS and the BSDs
OWN_MODE: Final = 0o600  # without, one that could not be given its name could not be opened again
_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def open_locked(directory: int, name: str, *, create: bool = True) -> io.FileIO:
    """Open and lock the file of that name; raise OperationError (busy, not_a_file, permission_denied), or OSError."""
    flags = _FLAGS | (os.O_CREAT if create else 0)
    for _ in range(OPEN_TRIES):
        file = io.FileIO(os.open(name.encode(), flags, OWN_MODE, dir_fd=directory), "r+")
        try:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OperationError("not_a_file")
            if status.st_uid != os.geteuid():  # in a directory that others may write, one was put there to be filled
                raise OperationError("permission_denied")
            if not placing.lock(file.fileno()):
                raise OperationError("busy")
            if _is_unfinished(directory, name, file):
                return file
        except BaseException:
            file.close()
            raise
        file.close()
    raise OperationError("busy")


def has_name(directory: int, name: str, file: io.FileIO) -> bool:
    """Tell whether `file` still is what has that name."""
    try:
        return os.path.samestat(os.stat(name.encode(), dir_fd=directory, follow_symlinks=False), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def write_some(file: io.FileIO, views: Sequence[memoryview], position: int) -> tuple[int, list[memoryview]]:
    """Write with one system call; return how many bytes were written, and what is left."""
    written = left = os.pwritev(file.fileno(), views[:IOV_MAX], position)
    for index, view in enumerate(views):
        if left < len(view):
            return written, [view[left:], *views[index + 1 :]]
        left -= len(view)
    return written, []


def sync(file: io.FileIO, mode: int, modified: int) -> None:
    """Put a file on disk, with this mode and time; raise OSError, and then nothing that was written may be relied on."""
    os.fchmod(file.fileno(), mode)
    os.utime(file.fileno(), ns=(modified, modified))
    os.fsync(file.fileno())


def _is_unfinished(directory: int, name: str, file: io.FileIO) -> bool:
    """Tell whether a locked file still is what has this name, and only this.

    Between opening and locking it may have been finished or removed. If it has another name, a crash came between the two
    steps that end it where renaming takes two: it is a whole file, not to be touched, and only its name here goes.
    """
    if not has_name(directory, name, file):
        return False
    if os.fstat(file.fileno()).st_nlink > 1:
        os.unlink(name.encode(), dir_fd=directory)
        return False
    return True
