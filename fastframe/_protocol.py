"""FrameProtocol: the callback way of the asyncio front. No task, no queue: what a read completed is handed over in one call."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from ._endpoint import LOOK_SECONDS, Endpoint
from ._errors import FrameError, IncompleteFrameError
from ._parts import DEFAULT_FORMAT, OnOversize
from ._receive import READ_SIZE
from ._turn import CallbackTurn

if TYPE_CHECKING:
    from ._codec import FrameBatch
    from ._endpoint import Server
    from ._format import FrameFormat


class FrameProtocol(CallbackTurn, Endpoint):
    """An asyncio protocol that gets payloads instead of bytes; derive from it and override the three methods that follow.

    While the peer does not take what was sent, its own frames are not read either: answering frames takes bounded memory.
    """

    def __init__(self, format: FrameFormat = DEFAULT_FORMAT, on_oversize: OnOversize = "raise") -> None:
        Endpoint.__init__(self, format, on_oversize)
        self._frames_per_turn = self._limits.frames_per_turn
        self._turn_left = self._turn_size = sys.maxsize  # bytes of one turn
        self._takes_batches = type(self).batch_received is not FrameProtocol.batch_received
        self._error: FrameError | None = None
        self._closed = False
        self._writable = True

    def connected(self) -> None:
        """Override: the connection stands, and `send` works."""

    def frames_received(self, frames: list[bytes]) -> None:
        """Override: take the payloads that one read completed, in order. What is sent meanwhile leaves in one write."""

    def batch_received(self, batch: FrameBatch) -> None:
        """Override instead of `frames_received` to take them as a `FrameBatch`, without an object for each."""

    def ended(self, error: Exception | None) -> None:
        """Override: the connection is over; this is the last call.

        `error`: None at a clean end and after `close`; `IncompleteFrameError` if the peer ended inside a frame; another
        `FrameError` if it sent what is no frame; OSError if the connection failed; what another method raised, if one did.
        """

    def send_eof(self) -> None:
        """Tell the peer that no frame follows; receiving goes on. TLS cannot do that: it raises NotImplementedError."""
        super().send_eof()
        self._eof_sent = True

    def close(self) -> None:
        """End the connection once the kernel has taken what was sent. If the peer still sends, the cut may overtake that."""
        self._flush()
        self._deaf = self._closed = True
        self._owe_nothing()
        self._close_transport()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if type(transport).__module__.startswith("uvloop."):  # reads up to 32 times; the others are content with 256 KiB
            self._turn_left = self._turn_size = READ_SIZE
        try:
            self.connected()
        except Exception as error:  # some loops would leave the connection open and unread
            self._report("connected() failed", error)

    def eof_received(self) -> bool:
        if self._turn_over and not self._deaf:  # through TLS, where nothing can be answered later
            self._decode_on(None)
        if not self._deaf:
            self._deaf = True
            try:
                self._decoder.finish()
            except IncompleteFrameError as error:
                self._error = error.again()  # without the traceback, which leads here
        self._flush()
        return False  # the transport closes itself once it has sent everything

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        try:
            self.ended(self._error or (None if self._closed else self._failure))
        finally:
            self._free()

    def pause_writing(self) -> None:
        self._writable = False
        self._go_on()

    def resume_writing(self) -> None:
        self._writable = True
        self._go_on()

    # the server's side

    def serve(self, server: Server) -> None:
        super().serve(server)
        self._frames_per_turn = server.limits.frames_per_turn

    def drain(self) -> None:
        super().drain()
        if self._transport is not None:
            self._end_between_frames()

    # own

    def _end_turn(self, completed: int) -> None:
        """See whether `completed` frames were all there was for this turn, and whether one more is wanted."""
        more = completed >= self._frames_per_turn and not self._takes_batches
        if self._turn_left < 0:
            self._turn_left = self._turn_size
            more = True
        if more or self._turn_over:
            self._turn_over = more
            self._go_on()
        if self._draining:
            self._end_between_frames()

    def _go_on(self) -> None:
        """Read on, or decode on; neither while the peer does not take the answers."""
        if self._deaf:
            return
        if self._turn_over and self._writable:
            self._loop.call_soon(self._take_turn)
        paused = self._turn_over or not self._writable
        if paused != self._reading_paused:
            self._pause_reading(paused)
            self._owe_nothing()  # the peer cannot go on either
            if not paused:
                self._set_deadline(0, completed=False)

    def _take_turn(self) -> None:
        """Decode what the last turn had no time for, as long as it is not too late for it."""
        if not self._turn_over or not self._writable or self._deaf or self.transport.is_closing():
            return
        try:
            self._decode_on(self._frames_per_turn)
        except Exception as error:  # as a loop has it when buffer_updated() raises
            self._report("frames_received() failed", error)

    def _decode_on(self, max_frames: int | None) -> None:
        try:
            frames = self._decoder.feed(b"", max_frames)
        except FrameError as error:
            self._end_with(error)
            return
        completed = len(frames)  # before whoever gets the list makes it shorter
        if completed:
            self._hand_over(frames)
        self._end_turn(completed)

    def _report(self, message: str, error: Exception) -> None:
        """Tell the loop what an overridden method raised, and cut the connection."""
        context = {"message": message, "exception": error, "protocol": self, "transport": self.transport}
        self._loop.call_exception_handler(context)
        self.fail(error)

    def _end_with(self, error: FrameError) -> None:
        """Hand over the payloads before a bad frame, answer them, and end the connection."""
        self._error = error.again()
        if self._server is not None:
            self._server.counters["bad_frames"] += 1
        self._deaf = True
        if error.frames:
            self._hand_over(error.frames)
        self._hang_up()

    def _end_between_frames(self) -> None:
        if not self._deaf and self._between_frames():
            self._closed = True
            self._hang_up()

    def _hang_up(self) -> None:
        """End the own direction, and let the peer take the last answers before it hangs up as well.

        A close while something is unread resets the connection, which destroys what is on its way (RFC 2525, 2.17).
        """
        self._flush()
        self._deaf = self._hung_up = True
        self._owe_nothing()
        if self.transport.is_closing():
            return
        self._pause_reading(False)
        if self.transport.can_write_eof():
            self._write_eof()
            self._lingering = self._loop.call_later(self._limits.linger_timeout, self.abort)
        else:
            self._close_when_taken(self._loop.time() + self._limits.linger_timeout)

    def _close_when_taken(self, latest: float) -> None:
        """TLS does not end one direction alone, and what comes while it closes resets the connection."""
        if self._untaken() and self._loop.time() < latest:
            self._lingering = self._loop.call_later(LOOK_SECONDS, self._close_when_taken, latest)
        else:
            self._close_transport()
