"""FileFrame: frames that carry a part of a file, sent without bringing it into Python where the kernel can do that.

    | header, prefix | bytes of the file | a netstring's comma |

A frame that has begun has to become whole, or its stream is out of step for ever. So what a file does not have any more when it
is its turn, or does not let us read, is sent as zeros, and told in the end.
"""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from . import _errors
from ._parts import trailer_of

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._codec import Encoder
    from ._errors import ShortFileError

    class HasDescriptor(Protocol):
        def fileno(self) -> int: ...

    File: TypeAlias = int | HasDescriptor

PIECE_SIZE: Final = 256 * 1024  # what is read at once where the kernel cannot send a file itself
# Up to here a payload is read and sent as any other. What the kernel has at hand needs no thread then: 4 KiB took 19 µs instead
# of 290, 128 KiB half as long as by sendfile. At 256 KiB reading was slower.
READ_SIZE: Final = 128 * 1024
PATIENCE: Final = 0.02  # seconds to wait for a socket that takes nothing, until another way of waiting is worth its cost
MSG_MORE: Final[int] = getattr(socket, "MSG_MORE", 0)  # the header shall not leave alone
NOWAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)
CAN_SEND_FILES: Final = hasattr(os, "sendfile")


class FileFrame:
    """One frame, from what is `_ready` to be sent first to the file's last byte; or several, one behind the other."""

    def __init__(
        self, encoder: Encoder, file: File, offset: int, count: int | None, *, prefix: Buffer, block: int | None = None
    ) -> None:
        """Take `count` bytes of `file` from `offset` on, None for all there are; in frames of `block` of them, None for one.

        Raise as `Encoder.encode` does.
        """
        self._file = file if isinstance(file, int) else file.fileno()
        self._offset = _errors.at_least_zero("offset", offset)
        count = max(0, os.fstat(self._file).st_size - offset) if count is None else _errors.at_least_zero("count", count)
        self._prefix = b"".join((prefix,))
        self._trailer = trailer_of(encoder.format)
        self._count = count
        self._block = count if block is None else _errors.at_least_one("block", block)
        self._left = min(count, self._block)  # bytes of this frame that were not read nor sent yet
        self._later = count - self._left  # bytes of the frames behind it
        brings_header = encoder.format.payload_brings_header
        if brings_header and self._later:
            raise _errors.one_header()
        self._header = encoder.header(len(self._prefix) + self._left)
        self._last_header = encoder.header(len(self._prefix) + (count % self._block or self._block)) if self._later else b""
        self._ready = memoryview(self._header + self._prefix + (b"" if count else self._trailer))
        self._direct = CAN_SEND_FILES
        self.in_one = brings_header or (count <= READ_SIZE and not self._later)  # `payload` is the way to send it
        self.given = 0  # bytes that the kernel has, header and all
        self.failure: ShortFileError | None = None  # what the sender is told in the end
        self.cut = False

    @property
    def done(self) -> bool:
        """Whether all of it is sent, or handed out to be sent."""
        return not self._ready and not self._left

    def payload_at_hand(self) -> bytes | None:
        """Read all of the payload without waiting for a disk; None where that cannot be, as on tmpfs and beside Linux."""
        if NOWAIT is None or self._count > READ_SIZE:
            return None
        memory = bytearray(self._count)
        try:
            if os.preadv(self._file, [memory], self._offset, NOWAIT) < self._count:
                return None
        except OSError:
            return None
        self._left = 0
        return b"".join((self._prefix, memory))

    def hold(self) -> None:
        """Keep the file open until `release`, whatever its owner does: a thread may still use it."""
        self._file = os.dup(self._file)

    def release(self) -> None:
        os.close(self._file)

    def payload(self) -> bytes:
        """Read all of the payload, before anything is sent."""
        read = []
        while self._left:
            read.append(self._read(self._left))
        return b"".join((self._prefix, *read))

    def take(self, size: int = PIECE_SIZE) -> bytes:
        """Hand out what comes next, for others to send: about `size` bytes."""
        ready, self._ready = self._ready, memoryview(b"")
        parts: list[bytes | memoryview] = [ready]
        if self._left:
            parts.append(self._read(size))
            if not self._left:
                parts.append(self._go_on())
        return b"".join(parts)

    def take_all(self) -> bytes:
        """Hand out all that is left."""
        parts = []
        while not self.done:
            parts.append(self.take())
        return b"".join(parts)

    def send_some(self, connection: socket.socket) -> None:
        """Send with one system call; raise OSError if the connection failed, BlockingIOError if it takes nothing now."""
        if self._direct and self._left and not self._ready:
            self._send_directly(connection)
            return
        if not self._ready:
            self._ready = memoryview(self.take())
        sent = connection.send(self._ready, MSG_MORE if self._left else 0)
        self._ready = self._ready[sent:]
        self.given += sent

    def push(self, connection: socket.socket | None) -> bytes:
        """Send for as long as a non-blocking connection takes something; return what it is others' turn to send then.

        It waits, for the disk and a moment for the connection: call it in a thread of its own. Raise as `send_some` does.
        """
        if connection is None:
            return self.take()
        while not self.done and not self.cut:
            try:
                self.send_some(connection)
            except BlockingIOError:
                if not is_writable(connection, PATIENCE):
                    return self.take()
        return b""

    def _send_directly(self, connection: socket.socket) -> None:
        try:
            sent = os.sendfile(connection.fileno(), self._file, self._offset, self._left)
        except BlockingIOError:
            raise
        except OSError:  # of the file or of the connection? Reading and sending one after the other will tell
            sent = 0
        if not sent:
            self._direct = False
            return
        self._advance(sent)
        self.given += sent
        if not self._left:
            self._ready = memoryview(self._go_on())

    def _go_on(self) -> bytes:
        """Return what is between the file's bytes in this frame and those in the next; that one is the frame at hand then."""
        if not self._later or self.failure is not None:
            self._later = 0
            return self._trailer
        self._left = min(self._later, self._block)
        self._later -= self._left
        return self._trailer + (self._header if self._later else self._last_header) + self._prefix

    def _read(self, size: int) -> bytes:
        """Read up to `size` of the bytes that are left, or zeros instead."""
        size = min(size, self._left)
        data = b""
        if self.failure is None:
            cause = None
            try:
                data = os.pread(self._file, size, self._offset)
            except OSError as error:
                cause = error
            if not data:
                sent = self._count - self._left - self._later
                self.failure = _errors.short_file(sent, self._count, cause)
        data = data or bytes(size)
        self._advance(len(data))
        return data

    def _advance(self, nbytes: int) -> None:
        self._offset += nbytes
        self._left -= nbytes


def is_writable(connection: socket.socket, timeout: float | None) -> bool:
    """Wait until a connection takes something or has failed, at most `timeout` seconds; tell whether that is so."""
    if hasattr(select, "poll"):
        waiting: Any = select.poll()
        waiting.register(connection, select.POLLOUT)
        return bool(waiting.poll(None if timeout is None else timeout * 1000))
    return bool(select.select((), (connection,), (), timeout)[1])
