"""Sending: how a `FrameStream` sends, frames of memory and frames of files.

A frame of memory goes to the transport, which has its own buffer. A large frame of a file goes past it, by `os.sendfile` in a
thread, since disks let one wait, and on a duplicate of the descriptor, since the transport may close its own at any time. The
thread stays as long as the connection takes something; when it does not, the transport gets a piece to send, which waits as
everything there does, and then it is the thread's turn again. So a slow peer holds no thread, and a fast one costs no waking.
What other tasks send meanwhile follows the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import _errors
from ._endpoint import Endpoint
from ._file_frame import CAN_SEND_FILES
from ._parts import DEFAULT_FORMAT, OnOversize, encode_parts

if TYPE_CHECKING:
    from ._file_frame import FileFrame
    from ._format import FrameFormat


class Passage:
    """A file on its way past the transport."""

    def __init__(self, frame: FileFrame) -> None:
        frame.hold()
        self.frame = frame
        self.connection: socket.socket | None = None  # the duplicate
        self.working: asyncio.Future[bytes] | None = None  # the thread
        self.counted = 0  # bytes that the endpoint knows of
        self.behind: list[bytes | memoryview] = []  # what others sent meanwhile
        self.over = asyncio.Event()

    def cut(self) -> None:
        """Have the thread fail; closing the transport does not, since the duplicate stays open."""
        self.frame.cut = True
        if self.connection is not None:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Close the duplicate as soon as the thread has left it."""
        self.over.set()
        if self.working is None or self.working.done():
            self._close()
        else:
            self.working.add_done_callback(self._close)

    def _close(self, left: asyncio.Future[bytes] | None = None) -> None:
        if left is not None and not left.cancelled():
            left.exception()  # which nobody waits for
        self.frame.release()
        if self.connection is not None:
            self.connection.close()


class Sending(Endpoint):
    """An endpoint whose senders wait while the peer does not take what was sent."""

    def __init__(self, format: FrameFormat = DEFAULT_FORMAT, on_oversize: OnOversize = "raise") -> None:
        super().__init__(format, on_oversize)
        self._writable: asyncio.Event | None = None  # while the peer does not take what is sent
        self._sending_end: Exception | None = None  # what send() raises from now on
        self._passage: Passage | None = None

    # asyncio's side

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._failure = self._failure or _errors.aborted()
        self._sending_end = self._sending_end or self._failure
        if self._writable is not None:
            self._writable.set()
        if self._passage is not None:
            self._passage.cut()

    def pause_writing(self) -> None:
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    # the server's side

    def is_slow(self) -> bool:
        if self._passage is not None:
            self._count(self._passage)
        return super().is_slow()

    # own

    def _push(self, parts: Sequence[bytes | memoryview]) -> bool:
        """Send now, if nobody would have to wait; tell whether that was so."""
        if self._writable is not None or self._passage is not None or self._sending_end is not None or self._gone:
            return False
        self._corked = True  # one write, and nothing scheduled for it
        self._queue(parts)
        self._corked = False
        self._flush()
        return True

    async def _send(self, parts: Sequence[bytes | memoryview]) -> None:
        self._raise_sending_end()
        if self._passage is not None:
            self._passage.behind += parts
            await self._passage.over.wait()
            await self._until_taken()
            return
        left = self._queue(parts)
        if self._writable is not None:
            await self._until_taken()
        elif left:
            await asyncio.sleep(0)  # a kernel that takes everything must not keep others from their turn

    async def _send_file(self, frame: FileFrame) -> None:
        self._raise_sending_end()
        transport = self.transport
        if frame.in_one:
            payload = frame.payload_at_hand()
            if payload is None:
                payload = await self._loop.run_in_executor(None, frame.payload)
            await self._send(encode_parts(self._encoder, payload))
            return
        while self._passage is not None:
            await self._passage.over.wait()
        self._raise_sending_end()
        if transport.is_closing():
            raise _errors.aborted()
        passage = self._passage = Passage(frame)
        try:
            await self._pass(passage, transport)
        finally:
            self._passage = None
            passage.end()
            if passage.behind and self._failure is None:
                self._queue(passage.behind)

    async def _pass(self, passage: Passage, transport: asyncio.Transport) -> None:
        """Have the transport send what it has, and then the file."""
        self._flush()
        low, high = transport.get_write_buffer_limits()
        direct = _is_plain(transport)
        if direct:
            transport.set_write_buffer_limits(0)
        try:
            await self._until_taken()
            if direct:
                passage.connection = _duplicate(transport)
            await self._take_turns(passage)
        finally:
            if not transport.is_closing():
                transport.set_write_buffer_limits(high, low)

    async def _take_turns(self, passage: Passage) -> None:
        """Send by turns, the thread and the transport. A frame that has begun cannot be taken back: cut what cannot go on."""
        frame = passage.frame
        try:
            while not frame.done:
                passage.working = self._loop.run_in_executor(None, frame.push, passage.connection)
                piece = await asyncio.shield(passage.working)
                self._count(passage)
                if piece:
                    self._queue([piece])
                    self._flush()
                await self._until_taken()
            if not self._watched:
                self._watch(True)
        except OSError as error:
            self.fail(_errors.again(error))
            self._raise_failure()
        except BaseException:
            self.fail(_errors.aborted())
            passage.cut()
            raise

    def _count(self, passage: Passage) -> None:
        """Count what the kernel was given by the thread, which goes on."""
        given = passage.frame.given
        self._sent += given - passage.counted
        passage.counted = given

    async def _until_taken(self) -> None:
        if self._writable is not None:
            await self._writable.wait()
        self._raise_failure()

    def _raise_sending_end(self) -> None:
        if self._sending_end is not None:
            raise _errors.again(self._sending_end)
        self._raise_failure()  # TLS takes a while to be lost

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise _errors.again(self._failure)


def _is_plain(transport: asyncio.Transport) -> bool:
    """Tell whether what is written to the transport's socket is what the peer gets."""
    return CAN_SEND_FILES and transport.get_extra_info("sslcontext") is None and transport.get_extra_info("socket") is not None


def _duplicate(transport: asyncio.Transport) -> socket.socket:
    if transport.is_closing():
        raise _errors.aborted()
    own = transport.get_extra_info("socket")
    return socket.socket(own.family, own.type, own.proto, fileno=os.dup(own.fileno()))
