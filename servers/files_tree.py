"""Whole directories, to a file server and from it: one file after the other, on one connection.

A file whose size and time are those of the one that is there is passed over, so a tree that broke off is gone on with by the
same command. A file that fails does not end the rest. What a directory is to be, its mode and its time, is set when all below
it is done: a mode may forbid to write in it, and writing in it changes its time.

The server may be anybody's: what it says of its names stays beneath the local directory (`Root`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Final

from . import local, offload
from .errors import OperationError, about
from .files_client import Entry, FilesClient, Manner, Progress, Transfer, wire_time
from .local import LocalError, Part, here
from .root import Root, kind_of

if TYPE_CHECKING:
    from .source import Source

OWNERS: Final = 0o700  # what a directory's mode has besides while its files come
DEFAULT: Final = Manner()


class Watch:
    """What is told of each file of a tree, by its name below that. This one does nothing but count."""

    def __init__(self) -> None:
        self.failures = 0

    def begin(self, name: str, size: int) -> Progress | None:  # noqa: ARG002
        """Take note that a file of `size` bytes is begun; return what shall be told of its progress."""
        return None

    def done(self, name: str, transfer: Transfer) -> None:
        """Take note that a file is there."""

    def unchanged(self, name: str) -> None:
        """Take note that a file was there already."""

    def skipped(self, name: str, reason: str) -> None:
        """Take note that what has that name is not transferred."""

    def failed(self, name: str, error: OperationError) -> None:  # noqa: ARG002
        """Take note that a file, or a directory with all below it, failed."""
        self.failures += 1


async def get_tree(
    client: FilesClient, name: str, path: str | os.PathLike[str], manner: Manner = DEFAULT, watch: Watch | None = None
) -> None:
    """Fetch what is below the directory `name` into the directory `path`, which is made if it is missing.

    Raise what the methods of `FilesClient` do, OperationError only for what ends it all; `watch` is told of the rest.
    """
    async with _opened(os.fspath(path), create=True) as root:
        tree = _Tree(client, name, os.fspath(path), root, manner, watch or Watch())
        top = await client.stat(name)
        if top.kind != "directory":
            raise about(name, "not_a_directory")
        waiting, entered = [("", top)], []
        while waiting:
            below, entry = waiting.pop()
            with tree.reported(below, to_raise=not below):
                waiting += reversed(await tree.get_directory(below))
                entered.append((below, entry))
        for below, entry in reversed(entered):
            with tree.reported(below):
                await offload.run(_set_directory, root, below, entry, tree.shown(below))


async def put_tree(
    client: FilesClient, path: str | os.PathLike[str], name: str, manner: Manner = DEFAULT, watch: Watch | None = None
) -> None:
    """Send what is below the directory `path` to be below the directory `name`, which is made if it is missing.

    Links, devices and the like are skipped. Otherwise as `get_tree`.
    """
    async with _opened(os.fspath(path)) as root:
        tree = _Tree(client, name, os.fspath(path), root, manner, watch or Watch())
        with here(tree.shown("")):
            waiting, entered = [("", await offload.run(root.stat, ""))], []
        while waiting:
            below, status = waiting.pop()
            with tree.reported(below, to_raise=not below):
                waiting += reversed(await tree.put_directory(below, status))
                entered.append((below, status))
        for below, status in reversed(entered):
            with tree.reported(below):
                await tree.make_remote(below, status.st_mode & 0o777, status.st_mtime_ns)


@dataclasses.dataclass(frozen=True)
class _Tree:
    """A directory here and one at the server; names are those below both."""

    client: FilesClient
    name: str
    path: str
    root: Root
    manner: Manner
    watch: Watch

    def shown(self, below: str) -> str:
        return os.path.join(self.path, below) if below else self.path

    @contextlib.contextmanager
    def reported(self, below: str, *, to_raise: bool = False) -> Iterator[None]:
        """Have what goes wrong in the body told, and go on; unless nothing can follow."""
        try:
            yield
        except OperationError as error:
            if to_raise or (error.code in FilesClient.ENDING and not isinstance(error, LocalError)):
                raise
            self.watch.failed(below or ".", error)

    async def get_directory(self, below: str) -> list[tuple[str, Entry]]:
        """Fetch the files of a directory, and return the directories in it."""
        await offload.run(_enter_directory, self.root, below, self.shown(below))
        entries = await self.client.list(_join(self.name, below))
        self._tell_unnamed(below, self.client.unnamed, "at the server")
        found = []
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = _join(below, entry.name)
            with self.reported(name):
                if entry.name in ("", ".", "..") or "/" in entry.name:
                    raise about(entry.name, "bad_name")
                if entry.kind == "directory":
                    found.append((name, entry))
                elif not self._is_skipped(name, entry.kind):
                    await self._get_file(name, entry)
        return found

    async def put_directory(self, below: str, status: os.stat_result) -> list[tuple[str, os.stat_result]]:
        """Send the files of a directory, and return the directories in it."""
        await self.make_remote(below, status.st_mode & 0o777 | OWNERS)
        local_ones, unnamed = await offload.run(_scan, self.root, below, self.shown(below))
        self._tell_unnamed(below, unnamed, "here")
        entries = self.client.entries(_join(self.name, below))
        remote_ones = {entry.name: entry async for entry in entries if entry.name in local_ones}
        found = []
        for last, one in sorted(local_ones.items()):
            name = _join(below, last)
            with self.reported(name):
                if stat.S_ISDIR(one.st_mode):
                    found.append((name, one))
                elif not self._is_skipped(name, kind_of(one)):
                    await self._put_file(name, one, remote_ones.get(last))
        return found

    async def make_remote(self, below: str, mode: int, modified: int | None = None) -> None:
        """Make a directory of the server, or set what it is to be. Its root is as it is."""
        if name := _join(self.name, below):
            await self.client.mkdir(name, mode, modified)

    async def _get_file(self, below: str, entry: Entry) -> None:
        part = await offload.run(_open_part, self.root, below, entry, self.shown(below))
        if part is None:
            self.watch.unchanged(below)
            return
        manner = dataclasses.replace(self.manner, progress=self.watch.begin(below, entry.size))
        self.watch.done(below, await self.client.get_part(_join(self.name, below), part, manner))

    async def _put_file(self, below: str, status: os.stat_result, remote: Entry | None) -> None:
        known = (remote.kind, remote.size, remote.modified) if remote else None
        if known == ("file", status.st_size, wire_time(status.st_mtime_ns)):
            self.watch.unchanged(below)
            return
        manner = dataclasses.replace(self.manner, progress=self.watch.begin(below, status.st_size))

        def opener() -> Source:
            return _open_source(self.root, below, manner.digest, self.shown(below))

        self.watch.done(below, await self.client.put_source(opener, _join(self.name, below), manner))

    def _is_skipped(self, below: str, kind: str) -> bool:
        reason = "" if kind == "file" else f"a {kind}" if kind == "link" else "neither file nor directory"
        if local.is_part(below.rpartition("/")[2]):
            reason = "the part of a file that broke off"
        if reason:
            self.watch.skipped(below, reason)
        return bool(reason)

    def _tell_unnamed(self, below: str, count: int, where: str) -> None:
        if count:
            error = OperationError("bad_name", f"{count} names in there are not UTF-8, {where}")
            self.watch.failed(below or ".", error)


@contextlib.asynccontextmanager
async def _opened(path: str, *, create: bool = False) -> AsyncIterator[Root]:
    root = await offload.run(_open_root, path, create=create)
    try:
        yield root
    finally:
        await offload.run(root.close)


def _open_root(path: str, *, create: bool) -> Root:
    with here(path):
        if create:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path)
        return Root(path)


def _enter_directory(root: Root, below: str, shown: str) -> None:
    """Make a directory, or take the one that is there and have it writable, which its mode may have ended before."""
    with here(shown):
        if below:
            try:
                root.make_directory(below)
            except OperationError as error:
                if error.code != "exists":
                    raise
        descriptor = root.open_directory(below)
        try:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            if mode & OWNERS != OWNERS:
                os.fchmod(descriptor, mode | OWNERS)
        finally:
            os.close(descriptor)


def _set_directory(root: Root, below: str, entry: Entry, shown: str) -> None:
    with here(shown):
        root.set_directory(below, entry.mode, entry.modified)


def _open_part(root: Root, below: str, entry: Entry, shown: str) -> Part | None:
    """Open the part of a file, unless that is there already, as far as its size and time tell."""
    with here(shown):
        directory, last = root.open_parent(below)
        try:
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(last.encode(), dir_fd=directory, follow_symlinks=False)
                if (kind_of(status), status.st_size, status.st_mtime_ns) == ("file", entry.size, entry.modified):
                    os.close(directory)
                    return None
        except BaseException:
            os.close(directory)
            raise
        return Part(directory, last, shown)


def _open_source(root: Root, below: str, digest: str, shown: str) -> Source:
    with here(shown):
        directory, last = root.open_parent(below)
        try:
            return local.open_source(last, digest, directory=directory, shown=shown)
        finally:
            os.close(directory)


def _scan(root: Root, below: str, shown: str) -> tuple[dict[str, os.stat_result], int]:
    """Return what is in a directory by name, and how many names are not UTF-8."""
    with here(shown), root.scan(below) as listing:
        return dict(listing.entries), listing.unnamed


def _join(above: str, name: str) -> str:
    return f"{above}/{name}" if above and name else above or name
