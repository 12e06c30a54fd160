"""Uploads that are not whole yet: files in one hidden directory of the root, from where a whole one is renamed to its name.

    open, resume, write, write, ...   and then   commit    the name is there, whole and on disk
                                                 keep      to be resumed, by another connection or server
                                                 discard   gone

Who has opened a partial holds a lock on its file (flock), which ends with the process, however that ends. Its name comes from
what the client says of its file, so that the same file finds it again; whether the bytes are the same, a digest of them
proves. So nothing of an upload is ever synced but the whole of it: what a crash did to the bytes, the proof finds out.

A failed fsync is final. The kernel may have dropped the pages that it could not write and says so once (PostgreSQL's
"fsyncgate"): another fsync would succeed, and lie.

The kernel is not asked to begin writing before that (sync_file_range with each 64 MiB): the last sync of 256 MiB took 0.1 s
instead of 0.2, but the whole upload not measurably less.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import digests, placing, unfinished
from .errors import OperationError, told

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .root import Root


@dataclass(frozen=True)
class Upload:
    """What a client says that it will send."""

    name: str
    size: int  # bytes
    modified: int  # nanoseconds since 1970
    mode: int  # permissions: 0o777
    owner: str  # who is authenticated, "" for nobody

    def key(self) -> str:
        """Return the name of its partial: the same for the same file, as far as the client says."""
        said = json.dumps([self.owner, self.name, self.size, self.modified])
        return hashlib.sha256(said.encode("ascii")).hexdigest()[:32]


class Staging:
    """The directory of partials. Any number of threads and processes may have one for the same root."""

    DIRECTORY = ".fastframe-uploads"

    def __init__(self, root: Root, lifetime: float = 7 * 24 * 3600.0) -> None:
        self._root = root
        self._lifetime = lifetime

    def check(self, upload: Upload, *, replace: bool) -> None:
        """Raise OperationError if a commit would be refused now: better before the first byte than after the last.

        exists, not_a_file, name_conflict, and what the root says of the name.
        """
        with told(upload.name), self._parent(upload) as (parent, last):
            placing.check(parent, last, replace=replace)

    def open(self, upload: Upload) -> Partial:
        """Create the partial of `upload`, or open the one that is there.

        Raise OperationError: busy, if another connection or process has it; disk_full, if there is no room for what is
        missing; unsupported, if its name is on another file system; what the root says of the name; what the disk says.
        """
        with told(upload.name), self._parent(upload) as (parent, _), self.directory(create=True) as directory:
            if os.fstat(parent).st_dev != os.fstat(directory).st_dev:
                raise OperationError("unsupported", placing.OTHER_DEVICE)
            partial = Partial(self, upload, unfinished.open_locked(directory, upload.key()))
            try:
                _check_space(directory, upload.size - partial.size)
            except BaseException:
                partial.keep()
                raise
            return partial

    def size_of(self, upload: Upload) -> int:
        """Return the bytes of its partial, 0 if there is none; raise OperationError."""
        with told(upload.name), contextlib.suppress(FileNotFoundError), self.directory() as directory:
            info = os.stat(upload.key(), dir_fd=directory, follow_symlinks=False)
            return info.st_size if info.st_nlink == 1 else 0
        return 0

    def remove_expired(self) -> int:
        """Remove the partials not written to for the lifetime, unless they are open; return how many; raise OperationError."""
        with told("uploads"), contextlib.suppress(FileNotFoundError), self.directory() as directory:
            return sum(self._remove_if_expired(directory, key) for key in os.listdir(directory))
        return 0

    def place(self, upload: Upload, *, replace: bool) -> None:
        """Give the partial its name: `placing.place`, and what the root says of the name."""
        with self.directory() as directory, self._parent(upload) as (parent, last):
            placing.place(directory, upload.key(), parent, last, replace=replace)

    @contextlib.contextmanager
    def directory(self, *, create: bool = False) -> Iterator[int]:
        """Open the directory of partials, for as long as it is used; raise OSError."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        with _closing(self._root.open_directory("")) as top:  # its own name is one that the root refuses
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self.DIRECTORY, 0o700, dir_fd=top)
            descriptor = os.open(self.DIRECTORY, flags, dir_fd=top)
        with _closing(descriptor):
            yield descriptor

    @contextlib.contextmanager
    def _parent(self, upload: Upload) -> Iterator[tuple[int, str]]:
        """Open the directory that the upload's name is in; raise OperationError."""
        descriptor, last = self._root.open_parent(upload.name)
        with _closing(descriptor):
            yield descriptor, last

    def _remove_if_expired(self, directory: int, key: str) -> bool:
        with contextlib.suppress(OSError, OperationError):  # gone, or in use; nothing that concerns the others
            if not self._is_expired(os.stat(key, dir_fd=directory, follow_symlinks=False)):
                return False  # and it was not even locked: who opens it now is not told that it is busy
            with unfinished.open_locked(directory, key, create=False) as file:
                if self._is_expired(os.fstat(file.fileno())):
                    os.unlink(key, dir_fd=directory)
                    return True
        return False

    def _is_expired(self, info: os.stat_result) -> bool:
        """Tell by the time of change, since that of modification becomes the client's before a commit that may fail."""
        return time.time() - info.st_ctime > self._lifetime


class Partial:
    """An upload on its way, locked until `commit`, `keep` or `discard` ends it; those two do nothing to one that has ended.

    One thread at a time. One that is dropped is kept, with a ResourceWarning.
    """

    def __init__(self, staging: Staging, upload: Upload, file: io.FileIO) -> None:
        self._staging = staging
        self._upload = upload
        self._file = file
        self.size = os.fstat(file.fileno()).st_size  # bytes in it
        self._is_proven = not self.size

    def hash(self, hasher: digests.Hasher, start: int, stop: int) -> None:
        """Have the bytes from `start` to `stop` hashed; raise OperationError: not_same_file, if there are not so many."""
        with told(self._upload.name):
            if not digests.update_from(hasher, self._file.fileno(), start, stop):
                raise OperationError("not_same_file")

    def resume(self, offset: int, digest: str, proof: str) -> None:
        """Cut it to its first `offset` bytes, whose digest is `digest`, if `proof` is the same.

        At offset 0 that needs no proof. Raise OperationError: not_same_file, if the client has other bytes there, or `digest`
        is empty, which proves nothing.
        """
        is_proof = digest != "" and hmac.compare_digest(digest.encode("ascii"), proof.encode("utf-8", "surrogatepass"))
        if offset and not is_proof:
            raise OperationError("not_same_file")
        with told(self._upload.name):
            os.ftruncate(self._file.fileno(), offset)
        self.size = offset
        self._is_proven = True

    def write(self, chunks: Sequence[Buffer]) -> None:
        """Append all of `chunks`; raise OperationError: wrong_size, before the upload would be too long; what the disk says.

        After an error `size` is what was written. What was there when it was opened has to be resumed first.
        """
        views = [memoryview(chunk).cast("B") for chunk in chunks]
        if sum(map(len, views)) > self._upload.size - self.size:
            raise OperationError("wrong_size")
        self._check_proven()
        with told(self._upload.name):
            while views:
                written, views = unfinished.write_some(self._file, views, self.size)
                self.size += written

    def commit(self, *, replace: bool) -> None:
        """Give it its name; on return it is on disk, whole.

        Raise OperationError: wrong_size, if it is not whole; what `placing.place` and the root refuse; what the disk says.
        Then it is still to be kept or discarded, except that it is discarded if it could not be synced.
        """
        if self.size != self._upload.size:
            raise OperationError("wrong_size")
        self._check_proven()
        mode = self._upload.mode & 0o777
        with told(self._upload.name):
            self._sync(mode | unfinished.OWN_MODE)
            self._staging.place(self._upload, replace=replace)
            if mode | unfinished.OWN_MODE != mode:
                self._sync(mode)
        self._close()

    def keep(self) -> None:
        """End here; what there is can be resumed."""
        if self.size:
            self._close()
        else:
            with contextlib.suppress(OperationError):
                self.discard()

    def close(self) -> None:
        """Keep it: what `offload.run` does with what nobody gets."""
        self.keep()

    def discard(self) -> None:
        """Remove it; raise OperationError."""
        if self._file.closed:
            return
        with told(self._upload.name), self._file, self._staging.directory() as directory:
            if unfinished.has_name(
                directory, self._upload.key(), self._file
            ):  # else it is the partial of somebody who came later
                os.unlink(self._upload.key(), dir_fd=directory)

    def _close(self) -> None:
        with contextlib.suppress(OSError):  # data that could not be written: fsync has told, or a proof will find it
            self._file.close()

    def _check_proven(self) -> None:
        if not self._is_proven:
            raise OperationError("not_same_file")

    def _sync(self, mode: int) -> None:
        """Put the file on disk, with this mode and the time that the client said; raise OSError; it is discarded if lost."""
        try:
            unfinished.sync(self._file, mode, self._upload.modified)
        except OSError:
            with contextlib.suppress(OperationError):  # the first error is the one to tell
                self.discard()
            raise


def _check_space(directory: int, wanted: int) -> None:
    space = os.fstatvfs(directory)
    if space.f_blocks and wanted > space.f_bavail * space.f_frsize:  # no blocks at all: it does not say
        raise OperationError("disk_full")


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
