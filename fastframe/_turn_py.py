"""Turn and CallbackTurn: what a connection does when something arrives. THE SPECIFICATION; `_turn_c.pyx` is its translation.

    get_buffer() memory -> buffer_updated(n) -> frames -> frames_received() -> send_many() -> one write

This is all that runs for each message of a busy connection. In Python it takes longer than the system calls around it, which is
why it exists twice; what happens once a connection, or when something goes wrong, is in `_endpoint.py` and `_protocol.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from . import _errors
from ._errors import FrameError
from ._format import MAX_HEADER_LENGTH
from ._parts import FLUSH_SIZE, batch_of, encode_many_parts, encode_parts, join_small
from ._receive import IN_PLACE_SIZE, receive_memory

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._codec import Decoder, Encoder, FrameBatch
    from ._deadlines import Deadlines
NO_MEMORY: Final = memoryview(b"")


class Turn:
    """Receive into the memory that is right for what is expected; have all that is sent in one turn leave in one write."""

    def __init__(self, decoder: Decoder, encoder: Encoder) -> None:
        self._use(decoder, encoder)
        self._memory = NO_MEMORY
        self._beginning = NO_MEMORY
        self._transport: Any = None
        self._loop: Any = None  # asked once: before 3.12 that is a system call
        self._gathers = False  # the transport writes several parts with one system call
        self._in_place = False  # what is received goes into the memory of the payload at hand
        self._deaf = False  # what comes now belongs to no frame; asyncio's TLS goes on reading while it closes
        self._reading_paused = False
        self._corked = False  # a flush will follow without being scheduled
        self._unsent: list[bytes | memoryview] = []
        self._unsent_length = 0
        self._sent = 0  # bytes that the transport was given
        self._watched = True  # whether the peer takes what is sent will be looked at; only a server does that
        self._draining = False  # the server closes: end between two frames
        self._owed = -1  # bytes that came of the frame at hand since its deadline was set; -1 while there is none
        self._idle_deadlines: Deadlines[Any] | None = None

    def _begin(self, transport: Any, loop: Any) -> None:
        """Belong to a connection. The memory is that of the loop's thread, which need not be the one that made this object."""
        self._transport = transport
        self._loop = loop
        self._memory = receive_memory.view
        self._beginning = receive_memory.beginning
        # asyncio's own writelines joins everything into one copy before 3.12, and forgot to pause the writer when it was new.
        self._gathers = not type(transport).__module__.startswith("asyncio.")

    def get_buffer(self, sizehint: int) -> memoryview:
        was_in_place = self._in_place
        pending = self._decoder.pending
        self._in_place = self._decoder.needed >= IN_PLACE_SIZE and pending > MAX_HEADER_LENGTH
        if self._in_place:
            return self._decoder.get_buffer(sizehint)
        # Behind a large payload there may be another, which is received in place but for what is read together with its header.
        return self._beginning if was_in_place and not pending else self._memory

    def _decode(self, nbytes: int, max_frames: int) -> list[bytes]:
        """Decode what was received into the memory that `get_buffer` lent."""
        if self._in_place:
            return self._decoder.buffer_updated(nbytes, max_frames)
        return self._decoder.feed(self._memory[:nbytes], max_frames)

    def _decode_batch(self, nbytes: int) -> FrameBatch:
        if self._in_place:
            return self._decoder.buffer_updated_batch(nbytes)
        return self._decoder.feed_batch(bytes(self._memory[:nbytes]))

    if TYPE_CHECKING:

        def _watch(self, watched: bool) -> None: ...

    def _use(self, decoder: Decoder, encoder: Encoder) -> None:
        """Decode and encode with these from now on."""
        self._decoder = decoder
        self._encoder = encoder

    def _forget(self, decoder: Decoder) -> None:
        """Have a decoder that holds nothing: a connection that is over may be kept for long, by cycles that its end leaves."""
        self._use(decoder, self._encoder)
        self._unsent = []

    def _queue(self, parts: Sequence[bytes | memoryview]) -> bool:
        """Have encoded frames leave together with the others of this turn of the loop; tell whether they have left already."""
        if not self._unsent and not self._corked:
            if self._loop is None:
                raise _errors.not_connected()
            self._loop.call_soon(self._flush)
        self._unsent += parts
        self._unsent_length += sum(map(len, parts))
        if self._unsent_length < FLUSH_SIZE:
            return False
        self._flush()
        return True

    def _flush(self) -> None:
        parts = self._unsent
        if not parts:
            return
        self._sent += self._unsent_length
        self._unsent, self._unsent_length = [], 0
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not self._watched:
            self._watch(True)
        if len(parts) > 1:
            parts = join_small(parts)
        if len(parts) == 1:
            transport.write(parts[0])
        elif self._gathers:
            transport.writelines(parts)
        else:
            for part in parts:
                transport.write(part)


class CallbackTurn(Turn):
    """Hand over what a read completed in one call, and have the answers leave in one write."""

    _frames_per_turn = 0
    _turn_left = 0  # bytes that may still come until others have their turn
    _takes_batches = False
    _eof_sent = False
    _hung_up = False  # what is sent goes nowhere
    _turn_over = False  # frames that came wait for the next turn of the loop

    def send(self, payload: Buffer) -> None:
        """Send a payload, without waiting. After the end of the connection it goes nowhere.

        Raise as `Encoder.encode` does, `MisuseError` before there is a connection and after `send_eof`.
        """
        self._send(encode_parts(self._encoder, payload))

    def send_many(self, payloads: Iterable[Buffer]) -> None:
        """Send payloads, all or none, without waiting; otherwise as `send`."""
        self._send(encode_many_parts(self._encoder, payloads))

    def send_batch(self, batch: FrameBatch) -> None:
        """Send the frames of `batch` on as they came: what a relay does. Its format has to be this connection's."""
        self._send(batch.wire_parts)

    def buffer_updated(self, nbytes: int) -> None:
        if self._deaf:
            return
        frames: list[bytes] | FrameBatch
        try:
            frames = self._decode_batch(nbytes) if self._takes_batches else self._decode(nbytes, self._frames_per_turn)
        except FrameError as error:
            self._end_with(error)
            return
        completed = len(frames)
        if completed:
            self._hand_over(frames)
        self._turn_left -= nbytes
        if completed >= self._frames_per_turn or self._turn_left < 0 or self._turn_over or self._draining:
            self._end_turn(completed)
        if self._owed >= 0 or self._decoder.pending:
            self._set_deadline(nbytes, completed=completed > 0)
        if self._idle_deadlines is not None and not self._reading_paused:
            self._idle_deadlines.restart(self)

    def _hand_over(self, frames: list[bytes] | FrameBatch) -> None:
        """Call the protocol; what it sends leaves in one write."""
        self._corked = True
        try:
            if not isinstance(frames, list):
                self.batch_received(frames)
            elif self._takes_batches:
                self.batch_received(batch_of(self._decoder.format, frames))
            else:
                self.frames_received(frames)
        finally:
            self._corked = False
            self._flush()

    def _send(self, parts: Sequence[bytes | memoryview]) -> None:
        if self._hung_up:
            return
        if self._eof_sent:
            raise _errors.closed("send_eof")
        self._queue(parts)

    if TYPE_CHECKING:  # what a protocol has

        def frames_received(self, frames: list[bytes]) -> None: ...
        def batch_received(self, batch: FrameBatch) -> None: ...
        def _end_turn(self, completed: int) -> None: ...
        def _end_with(self, error: FrameError) -> None: ...
        def _set_deadline(self, nbytes: int, *, completed: bool) -> None: ...
