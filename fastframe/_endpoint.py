"""The asyncio side of one connection: what `aio.FrameProtocol` and `aio.FrameStream` share.

What comes is received into memory that all connections of a thread share, or into the large payload that it belongs to. What
goes is encoded at once, held until the end of the turn of the loop, and leaves in one write; a large payload is handed to the
transport as it is.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol, cast

from . import _errors
from ._address import address_text
from ._codec import Decoder, Encoder, FrameBatch
from ._format import MAX_HEADER_LENGTH
from ._limits import PACE, Limits
from ._memory import LEND_SIZE
from ._parts import DEFAULT_FORMAT, GATHER_SIZE, OnOversize

if TYPE_CHECKING:
    from ._deadlines import Deadlines
    from ._format import FrameFormat

# Frames of one turn of the loop leave in one write, but no more than this is held back for it.
FLUSH_SIZE: Final = 64 * 1024
# A stream that nobody reads from stops receiving when it holds this much: asyncio.StreamReader's limit.
READ_LIMIT: Final = 64 * 1024
READ_SIZE: Final = 256 * 1024  # what one read may bring, as asyncio's own protocols have it
# A payload of which so much is missing is received in its own memory, and nothing else with it: of a netstring's comma and of
# the byte that a decoder holds back for uvloop it lends no memory.
IN_PLACE_SIZE: Final = LEND_SIZE + 2


class Server(Protocol):
    """What a server is to its connections."""

    limits: Limits
    counters: dict[str, int]
    frame_deadlines: Deadlines[Endpoint]
    write_deadlines: Deadlines[Endpoint]
    idle_deadlines: Deadlines[Endpoint]

    def connected(self, endpoint: Endpoint) -> None: ...

    def disconnected(self, endpoint: Endpoint) -> None: ...


class _ReceiveMemory(threading.local):
    """What all connections of a thread receive into.

    Between `get_buffer` and `buffer_updated` a loop does nothing else, so one block serves them all. A decoder's own pair would
    hold on to its block after a read that brought nothing, which TLS does on every idle connection.
    """

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_SIZE))


_memory = _ReceiveMemory()
DEFAULT_LIMITS: Final = Limits()


class Endpoint(asyncio.BufferedProtocol):
    """What the two ways share: sending, pausing, and the server that may stand behind the connection."""

    def __init__(self, format: FrameFormat = DEFAULT_FORMAT, on_oversize: OnOversize = "raise") -> None:
        self._decoder = Decoder(format, on_oversize)
        self._encoder = Encoder(format)
        self._server: Server | None = None
        self._idle_deadlines: Deadlines[Endpoint] | None = None
        self._limits = DEFAULT_LIMITS
        self._transport: asyncio.Transport | None = None
        self._gathers = False  # the transport writes several parts with one system call
        self._memory = _memory.view
        self._reading_paused = False
        self._in_place = False  # what is received goes into the memory of the payload at hand
        self._deaf = False  # what comes now belongs to no frame; asyncio's TLS goes on reading while it closes
        self._corked = False  # a flush will follow without being scheduled
        self._unsent: list[bytes | memoryview] = []
        self._unsent_length = 0
        self._gone = False  # the connection is lost
        self._draining = False  # the server closes: end between two frames
        self._failure: Exception | None = None  # of the connection, or why it was cut
        self._owed = -1  # bytes that came of the frame at hand since its deadline was set; -1 while there is none
        self._backlog = 0  # bytes that waited to be sent when their deadline was set

    @property
    def format(self) -> FrameFormat:
        """The `FrameFormat` of both directions."""
        return self._decoder.format

    @property
    def transport(self) -> asyncio.Transport:
        """The connection's transport. Raise `MisuseError` before there is one."""
        if self._transport is None:
            raise _errors.not_connected()
        return self._transport

    @property
    def peername(self) -> str:
        """The peer's address as text: `host:port`, `[v6]:port` or `unix:PATH`."""
        return address_text(self.transport.get_extra_info("peername"))

    @property
    def sockname(self) -> str:
        """The own address as text."""
        return address_text(self.transport.get_extra_info("sockname"))

    @property
    def skipped(self) -> int:
        """How many oversize frames were skipped."""
        return self._decoder.skipped

    def send_eof(self) -> None:
        """Tell the peer that no frame follows; receiving goes on. TLS cannot do that: it raises NotImplementedError."""
        if not self.transport.can_write_eof():
            raise _errors.no_half_close()
        self._flush()
        self.transport.write_eof()

    def abort(self) -> None:
        """Cut the connection now; what was not sent yet is lost."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # asyncio's own writelines joins everything into one copy before 3.12, and forgot to pause the writer when it was new.
        self._gathers = not type(transport).__module__.startswith("asyncio.")
        if self._server is not None:
            self._server.connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        self._in_place = self._decoder.needed >= IN_PLACE_SIZE and self._decoder.pending > MAX_HEADER_LENGTH
        return self._decoder.get_buffer(sizehint) if self._in_place else self._memory

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._failure = self._failure or exc
        if self._server is not None:
            self._server.disconnected(self)

    def pause_writing(self) -> None:
        if self._server is not None:
            self.took_some()
            self._server.write_deadlines.restart(self)

    def resume_writing(self) -> None:
        if self._server is not None:
            self._server.write_deadlines.stop(self)

    # the server's side

    def serve(self, server: Server) -> None:
        """Belong to a server, before there is a connection."""
        self._server = server
        self._limits = server.limits
        if server.limits.idle_timeout is not None:
            self._idle_deadlines = server.idle_deadlines

    def drain(self) -> None:
        """End the connection as soon as it is between two frames."""
        self._draining = True

    def fail(self, error: Exception) -> None:
        """Cut the connection because of what the peer did not do."""
        self._failure = self._failure or error
        self.abort()

    def is_late(self) -> bool:
        """Tell whether the frame whose deadline is over is waited for, and forget the deadline."""
        self._owed = -1
        return True

    def took_some(self) -> bool:
        """Tell whether the peer took 64 KiB since this was asked last."""
        before, self._backlog = self._backlog, self.transport.get_write_buffer_size()
        return before - self._backlog >= PACE

    # for the two ways

    def _decode(self, nbytes: int, max_frames: int | None = None) -> list[bytes]:
        """Decode what was received into the memory that `get_buffer` lent."""
        if self._in_place:
            return self._decoder.buffer_updated(nbytes, max_frames)
        return self._decoder.feed(self._memory[:nbytes], max_frames)

    def _decode_batch(self, nbytes: int) -> FrameBatch:
        if self._in_place:
            return self._decoder.buffer_updated_batch(nbytes)
        return self._decoder.feed_batch(self._memory[:nbytes])

    def _between_frames(self) -> bool:
        """Tell whether all that came is handed over, what the kernel holds included."""
        return not self._decoder.pending and not _has_unread(self.transport)

    def _set_deadline(self, nbytes: int, *, completed: bool) -> None:
        """After `nbytes` came, have the frame that they belong to be whole in time, or bring more."""
        if self._server is None:
            return
        if not self._decoder.pending or self._reading_paused:
            self._owe_nothing()
        elif completed or self._owed < 0 or self._owed + nbytes >= PACE:
            self._owed = 0
            self._server.frame_deadlines.restart(self)
        else:
            self._owed += nbytes

    def _owe_nothing(self) -> None:
        if self._owed >= 0 and self._server is not None:
            self._owed = -1
            self._server.frame_deadlines.stop(self)

    def _queue(self, parts: Sequence[bytes | memoryview]) -> bool:
        """Have encoded frames leave together with the others of this turn of the loop; tell whether they have left already."""
        if not self._unsent and not self._corked:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent += parts
        self._unsent_length += len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        if self._unsent_length < FLUSH_SIZE:
            return False
        self._flush()
        return True

    def _flush(self) -> None:
        transport, parts = self._transport, self._unsent
        if not parts:
            return
        self._unsent, self._unsent_length = [], 0
        if len(parts) > 1:
            parts = join_small(parts)
        if transport is None or transport.is_closing():
            return
        if len(parts) == 1:
            transport.write(parts[0])
        elif self._gathers:
            transport.writelines(parts)
        else:
            for part in parts:
                transport.write(part)

    def _pause_reading(self, paused: bool) -> None:
        if paused != self._reading_paused and self._transport is not None and not self._transport.is_closing():
            self._reading_paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()


def _has_unread(transport: asyncio.Transport) -> bool:
    """Tell whether the kernel has received what the transport has not read yet; False where nobody can know."""
    try:
        import fcntl  # noqa: PLC0415  not on Windows
        import termios  # noqa: PLC0415
    except ImportError:
        return False
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() == -1:
        return False
    return any(fcntl.ioctl(connection.fileno(), termios.FIONREAD, bytes(4)))  # an int, which is how many bytes


def join_small(parts: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """Return the same bytes in fewer parts: small ones joined, large ones as they are."""
    joined: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    for part in parts:
        if len(part) < GATHER_SIZE:
            small.append(part)
        else:
            joined += b"".join(small), part
            small = []
    return [*joined, b"".join(small)] if small else joined
