"""How a whole file gets its name: in one step, with nothing of that name lost by mistake, and on disk before anybody says so.

Whoever gives out a name in a directory holds a lock on that directory meanwhile (flock on its descriptor, so other processes
of the server wait as well): two of them could otherwise both find no name like theirs. Programs that do not lock can still
take a name at any moment. Therefore the kernel refuses a name that is there, in the same step that would give it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
import unicodedata
from collections.abc import Iterator
from typing import Final

from . import libc
from .errors import OperationError

LOCK_SECONDS: Final = 10.0  # the server's own hold it for as long as it takes to list a directory
LOCK_LOOKS_SECONDS: Final = 0.005  # between two tries; flock itself would wait without end for a program that keeps it
RENAME_NOREPLACE: Final = 1  # linux/fs.h
OTHER_DEVICE: Final = "this server takes no uploads to another file system than that of its root"


def place(source_directory: int, source: str, directory: int, name: str, *, replace: bool) -> None:
    """Rename `source` in one directory to `name` in the other, and return when both directories are on disk.

    Raise OperationError: exists; not_a_file, where there is anything to replace but a regular file or a symbolic link (which
    is replaced, and not what it points at); name_conflict, if the name is new and differs from another only in case or Unicode
    form; busy; unsupported, where the directories are on different file systems. Raise OSError for what the disk says; if
    that is a failed fsync, the name is there, but perhaps not after a crash.
    """
    with _locked(directory):
        check(directory, name, replace=replace)
        try:
            if replace:
                os.rename(source.encode(), name.encode(), src_dir_fd=source_directory, dst_dir_fd=directory)
            else:
                _rename_new(source_directory, source.encode(), directory, name.encode())
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise OperationError("unsupported", OTHER_DEVICE) from error
            raise
    sync_directory(directory)  # only the new name before the old one is gone from disk: at no time it has none
    sync_directory(source_directory)


def check(directory: int, name: str, *, replace: bool) -> None:
    """Raise OperationError if `place` would refuse `name` now: exists, not_a_file, name_conflict; OSError."""
    if is_there(directory, name):
        if not replace:
            raise OperationError("exists")
        mode = os.stat(name.encode(), dir_fd=directory, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            raise OperationError("not_a_file")


def is_there(directory: int, name: str) -> bool:
    """Tell whether there is that very name; raise OperationError (name_conflict) if there is only one like it, OSError."""
    # By listing: a look for the name itself finds another one on file systems that ignore case. In UTF-8, whatever the locale.
    names = [os.fsencode(other).decode("utf-8", "surrogateescape") for other in os.listdir(directory)]
    if name not in names and fold(name) in map(fold, names):
        raise OperationError("name_conflict")
    return name in names


def sync_directory(directory: int) -> None:
    """Return when the names in it are on disk; raise OSError."""
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the file system has no fsync of directories
            raise


def fold(name: str) -> str:
    """Return what names that differ in case or Unicode form alone have in common."""
    if name.isascii():
        return name.lower()
    # The Unicode Standard, 3.13, D145. It decomposes once more at the end; of no character does that change anything.
    return unicodedata.normalize("NFD", name).casefold()


@contextlib.contextmanager
def _locked(directory: int) -> Iterator[None]:
    """Hold the lock on a directory; raise OperationError (busy) if somebody else has it for too long."""
    latest = time.monotonic() + LOCK_SECONDS
    while not lock(directory):
        if time.monotonic() > latest:
            raise OperationError("busy")
        time.sleep(LOCK_LOOKS_SECONDS)
    try:
        yield
    finally:
        fcntl.flock(directory, fcntl.LOCK_UN)


def lock(descriptor: int) -> bool:
    """Try to lock a file or directory for this descriptor alone; tell whether nobody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _rename_new(source_directory: int, source: bytes, directory: int, name: bytes) -> None:
    """Rename, and raise FileExistsError if there is anything of that name."""
    try:
        _renameat2(source_directory, source, directory, name)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):  # this file system does not know how, or this kernel
            raise
        os.link(source, name, src_dir_fd=source_directory, dst_dir_fd=directory, follow_symlinks=False)
        os.unlink(source, dir_fd=source_directory)


def _renameat2(source_directory: int, source: bytes, directory: int, name: bytes) -> None:
    if not hasattr(libc.LIBRARY, "renameat2"):  # neither glibc 2.28 nor newer
        raise libc.oserror(errno.ENOSYS)
    libc.checked(libc.LIBRARY.renameat2(source_directory, source, directory, name, RENAME_NOREPLACE))
