"""The directory that a file server serves, and outside of which nothing is reached, whatever a name says.

In goes a name as a peer sent it: parts with "/" between them, UTF-8. Out comes a descriptor, or an `OperationError` that tells
the peer no more than it may know. A name is refused before any system call unless it goes down, part by part. The links on its
way are followed as long as they stay inside; `beneath` sees to that. Names are bytes in here: what they are on a disk must not
depend on the locale.

The client of a server that it does not trust confines in the same way the names that it gets.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Final, Self

from . import beneath
from .errors import OperationError, about, told
from .placing import sync_directory

NAME_BYTES_MAX: Final = 4096  # PATH_MAX of Linux
PART_BYTES_MAX: Final = 255  # NAME_MAX of nearly every file system
PARTS_MAX: Final = 255  # each may cost a descriptor while it is resolved, and a program has 1,024 of them
KINDS: Final = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY  # not O_PATH: these are listed and fsynced
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_LARGEFILE  # the last is for 32 bits: openat2 does not add it


class Root:
    """A directory outside of which nothing is reached. Its methods block, and may run in several threads at once.

    They raise `OperationError`; anything else is a bug. What they return as a descriptor is the caller's to close, and is not
    inherited by programs that are started.

    A file system that is mounted inside belongs to it. So does what a hard link leads to, and what is moved inside.
    """

    def __init__(self, path: str | os.PathLike[str], *, hidden: Collection[str] = (), walk: bool = False) -> None:
        """Serve the directory `path`.

        `hidden` are names directly in it that are as if there was nothing, in upper and lower case, since some file systems do
        not tell the two apart. (A link that leads there does lead there.) `walk` does without openat2. Raise OSError if `path`
        is no directory.
        """
        self._descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
        self._hidden = {name.casefold() for name in hidden}
        try:
            self._open_beneath = beneath.walk if walk else beneath.opener(self._descriptor)
        except OSError:
            self.close()
            raise

    def open_file(self, name: str) -> int:
        """Return a descriptor to read the regular file `name`."""
        path = self._check(name)
        with told(name):
            for _ in range(beneath.TRIES):
                descriptor = self._open_regular(path, name)
                if descriptor is not None:
                    os.set_blocking(descriptor, True)
                    return descriptor
            raise OSError(errno.EAGAIN, "it is exchanged all the time")

    def open_directory(self, name: str) -> int:
        """Return a descriptor to list and fsync the directory `name`, the root if that is empty."""
        path = self._check(name or None)
        with told(name):
            return self._open_beneath(self._descriptor, path, _DIRECTORY)

    def open_parent(self, name: str, *, create: bool = False) -> tuple[int, str]:
        """Return a descriptor of the directory that holds `name`, or would, and the last part of `name`.

        That part is not resolved, and may be a link. `create` makes the directories that are missing.
        """
        path = self._check(name)
        holder, _, last = path.rpartition(b"/")
        with told(name):
            try:
                descriptor = self._open_beneath(self._descriptor, holder or b".", _DIRECTORY)
            except FileNotFoundError:
                if not create:
                    raise
                descriptor = self._make_directories(holder)
        return descriptor, last.decode()

    def make_directory(self, name: str, mode: int = 0o777) -> None:
        """Make the directory `name` with `mode` less the umask, durably; `exists` if there is anything of that name."""
        descriptor, last = self.open_parent(name)
        try:
            with told(name):
                os.mkdir(last.encode(), mode, dir_fd=descriptor)
                sync_directory(descriptor)
        finally:
            os.close(descriptor)

    def set_directory(self, name: str, mode: int | None, modified: int | None) -> None:
        """Give the directory `name` permissions and a time in nanoseconds, durably; None leaves what is.

        What is no permission stays: that its group is shared (setgid), that its files are their owners' (sticky).
        """
        descriptor = self.open_directory(name)
        try:
            with told(name):
                if mode is not None:
                    os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & ~0o777 | mode)
                if modified is not None:
                    os.utime(descriptor, ns=(modified, modified))
                sync_directory(descriptor)
        finally:
            os.close(descriptor)

    def stat(self, name: str) -> os.stat_result:
        """Return the status of what `name` leads to, the root if it is empty."""
        path = self._check(name or None)
        with told(name):
            descriptor = self._open_beneath(self._descriptor, path, os.O_PATH)
            try:
                return os.fstat(descriptor)
            finally:
                os.close(descriptor)

    def scan(self, name: str) -> Listing:
        """Return what is in the directory `name`, in the root if that is empty. Close it, or use it by `with`."""
        return Listing(self.open_directory(name), name, hidden=() if name else self._hidden)

    def close(self) -> None:
        """Close the root; no method may be running."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _check(self, name: str | None) -> bytes:
        """Return `name` as a path, None as the root; raise OperationError if it is bad or hidden."""
        if name is None:
            return b"."
        path = _encode(name)
        if self._hidden and name.partition("/")[0].casefold() in self._hidden:
            raise about(name, "not_found")
        return path

    def _open_regular(self, path: bytes, name: str) -> int | None:
        """Return a descriptor of a regular file, None if it was exchanged for something else meanwhile.

        Opening a device may do something, and opening a FIFO waits. So O_PATH looks at what is there without opening it, and
        only a regular file is opened. In between it may be exchanged: then O_NONBLOCK does not wait, O_NOCTTY takes no
        terminal, and comparing the two tells. (No other file gets the first one's number as long as that is held.)
        """
        seen = self._open_beneath(self._descriptor, path, os.O_PATH)
        try:
            status = os.fstat(seen)
            if not stat.S_ISREG(status.st_mode):
                raise about(name, "not_a_file")
            descriptor = self._open_beneath(self._descriptor, path, _READ)
            if os.path.samestat(status, os.fstat(descriptor)):
                return descriptor
            os.close(descriptor)
        except OSError as error:
            if error.errno != errno.ELOOP:  # there is a link by now, which may lead inside: look again
                raise
        finally:
            os.close(seen)
        return None

    def _make_directories(self, path: bytes) -> int:
        """Make what is missing of the directory `path`, and return a descriptor of it."""
        parts = path.split(b"/")
        descriptor = self._open_beneath(self._descriptor, b".", _DIRECTORY)
        for depth in range(1, 1 + len(parts)):
            above = descriptor
            try:
                descriptor = self._open_or_make(above, parts[:depth])
            finally:
                os.close(above)
        return descriptor

    def _open_or_make(self, above: int, parts: list[bytes]) -> int:
        """Return a descriptor of the directory `parts`; make it, durably, in `above` if there is none."""
        path = b"/".join(parts)  # from the root on, not from `above`: it may be a link that goes up, though not out
        with contextlib.suppress(FileNotFoundError):
            return self._open_beneath(self._descriptor, path, _DIRECTORY)
        with contextlib.suppress(FileExistsError):  # somebody else was faster, or it is a link that leads nowhere
            os.mkdir(parts[-1], dir_fd=above)
        sync_directory(above)
        return self._open_beneath(self._descriptor, path, _DIRECTORY)


def kind_of(status: os.stat_result) -> str:
    """Return what a peer calls it: file, directory, link or other."""
    return KINDS.get(stat.S_IFMT(status.st_mode), "other")


class Listing:
    """What is in a directory, for one thread at a time. It raises `OperationError`; anything else is a bug.

    `entries` yields name and status of each, unsorted. Links are not followed: where they lead is not told. What vanishes
    meanwhile is left out, and so is a name that is not UTF-8: `unnamed` counts those.
    """

    def __init__(self, descriptor: int, name: str, hidden: Collection[str] = ()) -> None:
        """Take over the `descriptor` of the directory `name`."""
        self.unnamed = 0
        self.entries = self._read(hidden)
        self._name = name
        self._descriptor = descriptor
        try:
            with told(name):
                self._found = os.scandir(descriptor)
        except OperationError:
            os.close(descriptor)
            raise

    def close(self) -> None:
        self._found.close()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _read(self, hidden: Collection[str]) -> Iterator[tuple[str, os.stat_result]]:
        with told(self._name):
            for entry in self._found:
                try:
                    name = os.fsencode(entry.name).decode()
                    if name.casefold() not in hidden:
                        yield name, entry.stat(follow_symlinks=False)
                except UnicodeDecodeError:
                    self.unnamed += 1
                except FileNotFoundError:
                    continue


def _encode(name: str) -> bytes:
    """Return `name` as a path of bytes that goes down, part by part; raise OperationError if it is anything else."""
    try:
        path = name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can express
        raise about(name, "bad_name") from None
    parts = path.split(b"/")
    if len(path) > NAME_BYTES_MAX or len(parts) > PARTS_MAX or b"\0" in path or not all(map(_is_good, parts)):
        raise about(name, "bad_name")
    return path


def _is_good(part: bytes) -> bool:
    return part not in (b"", b".", b"..") and len(part) <= PART_BYTES_MAX
