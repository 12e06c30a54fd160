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

from . import digests, placing, unfinished
from .errors import CODES, ERRNOS, OperationError
from .source import Source

PART_SUFFIX: Final = ".fastframe-part"
NAME_MAX: Final = 255  # bytes, of nearly every file system
TEXTS: Final = {**CODES, "io_error": "the disk failed"}  # of what may come without an OSError
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


def open_part(path: str, suffix: str = "") -> Part:
    """Open the part of the file `path`, which is called so with `suffix`, if there is one; raise LocalError."""
    directory, last = os.path.split(path)
    with here(path):
        try:
            name = os.fsencode(last).decode()  # in UTF-8, whatever the locale
        except UnicodeDecodeError:
            raise OperationError("bad_name") from None
        if name in ("", ".", ".."):
            raise OperationError("bad_name")
        descriptor = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return Part(descriptor, name, path, suffix and name + suffix)


class Part:
    """A file that comes, for one thread at a time. Raises LocalError; `size` is what is there of it, in bytes.

    It has to be closed, whether or not `commit` gave it its name: what is not whole is kept, to be resumed, unless it is empty.
    """

    def __init__(self, directory: int, name: str, shown: str, part: str = "") -> None:
        """Open or create the part of the file `name`, called `part`, in `directory`, a descriptor that it takes over.

        Raise LocalError: busy, if somebody else fetches that file now.
        """
        self.shown = shown
        self._directory = directory
        self._name = name
        self._part = part or part_name(name)
        try:
            with here(shown):
                self._file = unfinished.open_locked(directory, self._part)
                self.size = os.fstat(self._file.fileno()).st_size
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
            os.ftruncate(self._file.fileno(), offset)
            self.size = offset
            if not digests.update_from(hasher, self._file.fileno(), 0, offset):
                raise OperationError("changed")
        return hasher

    def write(self, chunks: list[memoryview]) -> None:
        """Append all of `chunks`."""
        views = chunks
        with here(self.shown):
            while views:
                written, views = unfinished.write_some(self._file, views, self.size)
                self.size += written

    def commit(self, modified: int, mode: int, *, replace: bool) -> None:
        """Give it its time, its permissions and its name; on return it is on disk, whole."""
        with here(self.shown):
            try:
                unfinished.sync(self._file, mode | unfinished.OWN_MODE, modified)
            except OSError:
                os.ftruncate(self._file.fileno(), 0)  # a second fsync would succeed, and lie
                raise
            placing.place(self._directory, self._part, self._directory, self._name, replace=replace)
            if mode | unfinished.OWN_MODE != mode:
                unfinished.sync(self._file, mode, modified)

    def discard(self) -> None:
        """Forget what is there: it is wrong."""
        with here(self.shown):
            os.ftruncate(self._file.fileno(), 0)

    def remove(self) -> None:
        """Remove what is there, unless it has its name by now."""
        with here(self.shown):
            if unfinished.has_name(self._directory, self._part, self._file):
                os.unlink(self._part.encode(), dir_fd=self._directory)

    def close(self) -> None:
        """Close it, and remove it if it is empty. Safe to repeat."""
        if self._file.closed:
            return
        try:
            with self._file, contextlib.suppress(OSError):  # nothing depends on it
                is_empty = os.fstat(self._file.fileno()).st_size == 0
                if is_empty and unfinished.has_name(self._directory, self._part, self._file):
                    os.unlink(self._part.encode(), dir_fd=self._directory)
        finally:
            os.close(self._directory)


def part_name(name: str) -> str:
    """Return what the part of the file `name` is called."""
    part = f".{name}{PART_SUFFIX}"
    return part if len(part.encode()) <= NAME_MAX else f".{hashlib.sha256(name.encode()).hexdigest()}{PART_SUFFIX}"


def is_part(name: str) -> bool:
    """Tell whether a file called that could be the part of another."""
    return name.startswith(".") and name.endswith(PART_SUFFIX)
