"""The files of a client: one that is sent, and one that comes, which waits in a part file beside its name until it is whole.

    .NAME.fastframe-part    locked while somebody fetches NAME, kept when that breaks off, renamed when it is whole

What goes wrong here is told as what happened here: the texts of `errors.CODES` speak of the server. All of it blocks.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from typing import Final

from . import digests, placing
from .errors import CODES, ERRNOS, OperationError
from .source import HASH_BLOCK, Source

PART_SUFFIX: Final = ".fastframe-part"
NAME_MAX: Final = 255  # bytes, of nearly every file system
IOV_MAX: Final = 1024  # buffers that the kernel takes at once: limits.h of Linux, macOS and the BSDs
TEXTS: Final = {**CODES, "io_error": "the disk failed"}  # of what may come without an OSError
OPEN_TRIES: Final = 100  # each is lost to somebody who ended the same part in that moment
_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class LocalError(OperationError):
    """It was the client's own disk, and not the server."""


def blamed(path: str, error: OSError | OperationError) -> LocalError:
    """Return what is told of an error that came with `path`, on this side."""
    if isinstance(error, LocalError):
        return error
    if isinstance(error, OperationError) and isinstance(error.__cause__, OSError):
        error = error.__cause__
    if isinstance(error, OSError):
        return LocalError(ERRNOS.get(error.errno or 0, "io_error"), f"{path}: {error.strerror or error}")
    return LocalError(error.code, f"{path}: {TEXTS[error.code]}")


@contextlib.contextmanager
def here(path: str) -> Iterator[None]:
    """Have what goes wrong in the body told as what happened to `path`, on this side."""
    try:
        yield
    except (OSError, OperationError) as error:
        raise blamed(path, error) from error


def open_source(path: str, digest: str, *, directory: int | None = None, shown: str | None = None) -> Source:
    """Open a regular file to send it; with `directory`, `path` is a name in that, and no link is followed.

    Raise LocalError; OperationError (unsupported) if there is no such digest.
    """
    shown = path if shown is None else shown
    follows = directory is None
    with here(shown):
        # Opening a device may do something. Should it be exchanged meanwhile, O_NONBLOCK waits for nobody.
        if not stat.S_ISREG(os.stat(path, dir_fd=directory, follow_symlinks=follows).st_mode):
            raise OperationError("not_a_file")
        descriptor = os.open(path, os.O_RDONLY | (_FLAGS & ~os.O_NOFOLLOW if follows else _FLAGS), dir_fd=directory)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OperationError("not_a_file")
    return Source(descriptor, shown, digest)


def open_part(path: str) -> Part:
    """Open the part of the file `path`; raise LocalError."""
    directory, last = os.path.split(path)
    with here(path):
        try:
            name = os.fsencode(last).decode()  # in UTF-8, whatever the locale
        except UnicodeDecodeError:
            raise OperationError("bad_name") from None
        if name in ("", ".", ".."):
            raise OperationError("bad_name")
        descriptor = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return Part(descriptor, name, path)


class Part:
    """A file that comes, for one thread at a time. Raises LocalError; `size` is what is there of it, in bytes.

    It has to be closed, whether or not `commit` gave it its name: what is not whole is kept, to be resumed, unless it is empty.
    """

    def __init__(self, directory: int, name: str, shown: str) -> None:
        """Open or create the part of the file `name` in `directory`, a descriptor that it takes over.

        Raise LocalError: busy, if somebody else fetches that file now.
        """
        self.shown = shown
        self._directory = directory
        self._name = name
        self._part = part_name(name)
        try:
            with here(shown):
                self._file = _open_locked(directory, self._part.encode())
                self.size = os.fstat(self._file).st_size
        except BaseException:
            os.close(directory)
            raise

    def check(self, *, replace: bool) -> None:
        """Raise LocalError if `commit` would not give it its name: better before the first byte than after the last."""
        with here(self.shown), contextlib.suppress(FileNotFoundError):
            mode = os.stat(self._name.encode(), dir_fd=self._directory, follow_symlinks=False).st_mode
            if not replace:
                raise OperationError("exists")
            if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
                raise OperationError("not_a_file")

    def resume(self, offset: int, digest: str) -> digests.Hasher:
        """Cut it to `offset` bytes; return the hasher of these."""
        hasher = digests.new(digest)
        with here(self.shown):
            os.ftruncate(self._file, offset)
            self.size = offset
            at = 0
            while at < offset:
                data = os.pread(self._file, min(HASH_BLOCK, offset - at), at)
                if not data:
                    raise OperationError("changed")
                hasher.update(data)
                at += len(data)
        return hasher

    def write(self, chunks: list[memoryview]) -> None:
        """Append all of `chunks`."""
        views = [chunk for chunk in chunks if chunk]
        with here(self.shown):
            while views:
                written = os.pwritev(self._file, views[:IOV_MAX], self.size)
                self.size += written
                while views and written >= len(views[0]):
                    written -= len(views.pop(0))
                if written:
                    views[0] = views[0][written:]

    def commit(self, modified: int, mode: int, *, replace: bool) -> None:
        """Give it its time, its permissions and its name; on return it is on disk, whole."""
        with here(self.shown):
            os.fchmod(self._file, mode)
            os.utime(self._file, ns=(modified, modified))
            os.fsync(self._file)
            placing.place(self._directory, self._part, self._directory, self._name, replace=replace)

    def discard(self) -> None:
        """Forget what is there: it is wrong."""
        with here(self.shown):
            os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Close it, and remove it if it is empty. Safe to repeat."""
        descriptor, self._file = self._file, -1
        if descriptor == -1:
            return
        try:
            with contextlib.suppress(OSError):  # nothing depends on it
                if os.fstat(descriptor).st_size == 0 and _has_name(self._directory, self._part.encode(), descriptor):
                    os.unlink(self._part.encode(), dir_fd=self._directory)
        finally:
            os.close(descriptor)
            os.close(self._directory)


def part_name(name: str) -> str:
    """Return what the part of the file `name` is called."""
    part = f".{name}{PART_SUFFIX}"
    return part if len(part.encode()) <= NAME_MAX else f".{hashlib.sha256(name.encode()).hexdigest()}{PART_SUFFIX}"


def is_part(name: str) -> bool:
    """Tell whether a file called that could be the part of another."""
    return name.startswith(".") and name.endswith(PART_SUFFIX)


def _open_locked(directory: int, part: bytes) -> int:
    """Return a descriptor of the part, which is locked; raise OperationError (busy, not_a_file), OSError."""
    for _ in range(OPEN_TRIES):
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600, dir_fd=directory)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OperationError("not_a_file")
            if not placing.lock(descriptor):
                raise OperationError("busy")
            if _is_part(directory, part, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise OperationError("busy")


def _is_part(directory: int, part: bytes, descriptor: int) -> bool:
    """Tell whether what was locked still is what has this name, and only this.

    Between opening and locking it may have been committed or removed. If it has another name, a crash came between the two
    steps of a commit where renaming takes two: it is a whole file, not to be touched, and only its name here goes.
    """
    if not _has_name(directory, part, descriptor):
        return False
    if os.fstat(descriptor).st_nlink > 1:
        os.unlink(part, dir_fd=directory)
        return False
    return True


def _has_name(directory: int, part: bytes, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(part, dir_fd=directory, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False
