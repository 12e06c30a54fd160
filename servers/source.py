"""A file that is being sent, by either side: read, hashed, and watched for a change."""

from __future__ import annotations

import hmac
import os

from . import digests
from .errors import OperationError, about, told


class Source:
    """A regular file, open for reading; `descriptor` belongs to it. All of it blocks: threads call it, one at a time."""

    def __init__(self, descriptor: int, name: str, digest: str) -> None:
        self.descriptor = descriptor
        self.name = name
        try:
            self._hasher = None if digest == "none" else digests.new(digest)
        except OperationError:
            os.close(descriptor)
            raise
        status = os.fstat(descriptor)
        self.size = status.st_size
        self.modified = status.st_mtime_ns
        self.mode = status.st_mode & 0o777

    @property
    def is_hashed(self) -> bool:
        return self._hasher is not None

    def hash(self, start: int, stop: int) -> None:
        """Hash the bytes from `start` to `stop`, each once and in order; raise OperationError (changed, io_error)."""
        if self._hasher is None:
            return
        with told(self.name):
            if not digests.update_from(self._hasher, self.descriptor, start, stop):
                raise about(self.name, "changed")

    def check_offset(self, offset: int) -> None:
        """Raise OperationError (not_same_file) if nothing can prove that the other side has the first `offset` bytes."""
        if offset > self.size or self._hasher is None:
            raise OperationError("not_same_file")

    def check_proof(self, proof: str) -> None:
        """Raise OperationError (not_same_file) if the other side has not the bytes that were hashed."""
        if not hmac.compare_digest(self.digest.encode(), proof.encode()):
            raise OperationError("not_same_file")

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes; raise OperationError (changed) if there are fewer."""
        with told(self.name):
            data = os.pread(self.descriptor, count, offset)
        if len(data) != count:
            raise about(self.name, "changed")
        return data

    @property
    def digest(self) -> str:
        """The digest of what was hashed, "" if there is none."""
        return "" if self._hasher is None else self._hasher.hexdigest()

    def finish(self) -> str:
        """Return the digest of all; raise OperationError (changed) if the file is not what it was at first."""
        status = os.fstat(self.descriptor)
        if (status.st_size, status.st_mtime_ns) != (self.size, self.modified):
            raise about(self.name, "changed")
        return self.digest

    def close(self) -> None:
        """Close the file. Safe to repeat."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor != -1:
            os.close(descriptor)
