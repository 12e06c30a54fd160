"""The asyncio side of one connection: what `aio.FrameProtocol` and `aio.FrameStream` share.

What comes is received into memory that all connections of a thread share, or into the large payload that it belongs to. What
goes is encoded at once, held until the end of the turn of the loop, and leaves in one write; a large payload is handed to the
transport as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Protocol

from . import _errors, _kernel
from ._address import address_text
from ._codec import Decoder, Encoder
from ._limits import PACE, Limits
from ._parts import DEFAULT_FORMAT, OnOversize
from ._turn import Turn

if TYPE_CHECKING:
    from ._deadlines import Deadlines
    from ._format import FrameFormat

# A stream that nobody reads from stops receiving when it holds this much: asyncio.StreamReader's limit.
READ_LIMIT: Final = 64 * 1024
LOOK_SECONDS: Final = 0.05  # between two looks whether the peer has taken its last answers, where nothing else tells


class Server(Protocol):
    """What a server is to its connections."""

    limits: Limits
    counters: dict[str, int]
    frame_deadlines: Deadlines[Endpoint]
    write_deadlines: Deadlines[Endpoint]
    idle_deadlines: Deadlines[Endpoint]

    def connected(self, endpoint: Endpoint) -> None: ...

    def disconnected(self, endpoint: Endpoint) -> None: ...


DEFAULT_LIMITS: Final = Limits()


class Endpoint(Turn, asyncio.BufferedProtocol):
    """What the two ways share: sending, pausing, and the server that may stand behind the connection."""

    def __init__(self, format: FrameFormat = DEFAULT_FORMAT, on_oversize: OnOversize = "raise") -> None:
        Turn.__init__(self, Decoder(format, on_oversize), Encoder(format))
        self._on_oversize = on_oversize
        self._server: Server | None = None
        self._limits = DEFAULT_LIMITS
        self._skipped = 0  # by a decoder that is forgotten
        self._gone = False  # the connection is lost
        self._failure: Exception | None = None  # of the connection, or why it was cut
        self._lingering: asyncio.TimerHandle | None = None  # while the peer is to hang up
        self._goal = 0  # how many bytes of those sent the peer is to have taken by the next look

    @property
    def format(self) -> FrameFormat:
        """The `FrameFormat` of both directions."""
        return self._decoder.format

    @property
    def transport(self) -> asyncio.Transport:
        """The connection's transport. Raise `MisuseError` before there is one."""
        if self._transport is None:
            raise _errors.not_connected()
        transport: asyncio.Transport = self._transport
        return transport

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
        return self._skipped + self._decoder.skipped

    def send_eof(self) -> None:
        """Tell the peer that no frame follows; receiving goes on. TLS cannot do that: it raises NotImplementedError."""
        if not self.transport.can_write_eof():
            raise _errors.no_half_close()
        self._flush()
        self._write_eof()

    def abort(self) -> None:
        """Cut the connection now; what was not sent yet is lost."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._begin(transport, asyncio.get_running_loop())
        if self._server is not None:
            self._server.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        if isinstance(exc, OSError):
            exc.__traceback__ = None  # it keeps what was being received
        if self._lingering is not None:
            self._lingering.cancel()
        self._failure = self._failure or (_errors.unreachable() if isinstance(exc, TimeoutError) else exc)
        if self._server is not None:
            self._server.disconnected(self)

    # the server's side

    def serve(self, server: Server) -> None:
        """Belong to a server, before there is a connection."""
        self._server = server
        self._limits = server.limits
        self._watched = server.limits.write_timeout is None
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

    def is_slow(self) -> bool:
        """Tell whether the peer took less than 64 KiB, and not all, of what waited for it when this was asked last.

        If anything waits now, it will be asked again.
        """
        waiting = self._untaken()
        taken = _kernel.taken(self.transport)
        if taken is None:
            taken = self._sent - waiting
        slow = waiting > 0 and taken < self._goal
        self._goal = taken + min(waiting, PACE)
        self._watch(waiting > 0)
        return slow

    # for the two ways

    def _write_eof(self) -> None:
        """End the own direction. asyncio fails if the peer has reset the connection, which it will find out in a moment."""
        with contextlib.suppress(OSError):
            self.transport.write_eof()

    def _free(self) -> None:
        """Free what came and what was not sent, at the end."""
        self._skipped = self.skipped
        self._forget(Decoder(self.format))

    def _change_format(self, format: FrameFormat) -> None:
        """Have frames of another format from now on, those included that are held and not decoded."""
        self._decoder.feed(b"", 0)  # one that failed says so
        decoder, encoder = Decoder(format, self._on_oversize), Encoder(format)
        decoder.feed(self._decoder.detach(), 0)
        self._skipped = self.skipped
        self._use(decoder, encoder)
        self._owe_nothing()  # what is held is no frame of that age

    def _end_between_frames(self) -> None:
        """See whether a connection that is to end may do so now."""

    def _between_frames(self) -> bool:
        """Tell whether all that came is handed over, what the kernel holds included.

        What TLS holds while it is not read nobody can know; that is asked again once it is.
        """
        unknown = self._reading_paused and not self.transport.can_write_eof()
        return not (unknown or self._decoder.pending or _kernel.unread(self.transport))

    def _untaken(self) -> int:
        """Return how many bytes the peer has not taken yet."""
        return self.transport.get_write_buffer_size() + _kernel.untaken(self.transport)

    def _set_deadline(self, nbytes: int, *, completed: bool) -> None:
        """After `nbytes` came, have the frame that they belong to be whole in time, or bring more."""
        if self._server is None:
            return
        if not self._decoder.pending or self._reading_paused or self._deaf:
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

    def _watch(self, watched: bool) -> None:
        self._watched = watched
        if watched and self._server is not None:
            self._server.write_deadlines.restart(self)

    def _close_transport(self) -> None:
        """Close once everything is sent. A second close makes asyncio's TLS forget the connection, which nothing cuts then."""
        if not self.transport.is_closing():
            self.transport.close()
        if not self._gone and not self.transport.can_write_eof():
            self._linger()

    def _linger(self) -> None:
        """Cut a peer of TLS that has taken everything and does not end its side; the transport would wait for long."""
        if self._untaken():
            self._lingering = self._loop.call_later(LOOK_SECONDS, self._linger)
        else:
            self._lingering = self._loop.call_later(self._limits.linger_timeout, self.abort)

    def _pause_reading(self, paused: bool) -> None:
        if paused != self._reading_paused and self._transport is not None and not self._transport.is_closing():
            self._reading_paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
                if self._draining:
                    self._loop.call_soon(self._end_between_frames)
            if self._idle_deadlines is not None:  # who is not heard is not silent
                change = self._idle_deadlines.stop if paused else self._idle_deadlines.restart
                change(self)
