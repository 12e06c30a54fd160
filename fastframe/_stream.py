"""FrameStream: the `await` way of the asyncio front. A payload is decoded when `recv` asks for one, and not before.

So what follows may belong to another protocol (`detach`), and a peer that sends faster than anybody receives is not read any
more. Who receives is the one that waits: `buffer_updated` decodes for a `recv` that is there, and otherwise only keeps.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Self

from . import _errors
from ._endpoint import LOOK_SECONDS, READ_LIMIT
from ._errors import EndOfStreamError, FrameError, MisuseError
from ._file_frame import FileFrame
from ._parts import DEFAULT_FORMAT, OnOversize, batch_of, encode_joined_parts, encode_many_parts, encode_parts
from ._sending import Sending

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Buffer

    from ._codec import FrameBatch
    from ._file_frame import File
    from ._format import FrameFormat

CLOSE_TIMEOUT: Final = 5.0  # seconds for a peer to take what was sent before the connection is cut


class FrameStream(Sending):
    """A connection to `await` payloads from and to send payloads on; `connect` and `serve` make it.

    One task at a time may receive, any number may send. `async for` yields payloads and stops at a clean end.
    """

    def __init__(self, format: FrameFormat = DEFAULT_FORMAT, on_oversize: OnOversize = "raise") -> None:
        super().__init__(format, on_oversize)
        self._received: list[bytes] | FrameBatch = []  # at most one payload, which was completed before anybody took it
        self._in_message = False
        self._receiver: asyncio.Future[None] | None = None  # the recv() or recv_batch() that waits
        self._wants_payload = True  # it is a recv()
        self._lost: asyncio.Event | None = None  # while close() waits
        self._at_eof = False
        self._hanging_up = False  # only the peer's end is waited for
        self._taken = 0  # payloads that recv() had without waiting
        self._end: Exception | None = None  # what recv() raises from now on

    @property
    def in_message(self) -> bool:
        """Whether a message of several frames is under way, which a handler says by setting it; False at first.

        While it does, a server that closes with grace lets `recv` wait on, between two frames as well.
        """
        return self._in_message

    @in_message.setter
    def in_message(self, value: bool) -> None:
        self._in_message = value
        if self._draining:
            self._wake_receiver()

    async def send(self, payload: Buffer) -> None:
        """Send a payload, and wait while the peer does not take what was sent before.

        Raise as `Encoder.encode` does; OSError if the connection failed; `MisuseError` after `send_eof`, `close` or `detach`.
        When it is cancelled while it waits, the frame is sent all the same. Anything else is a bug.
        """
        await self._send(encode_parts(self._encoder, payload))

    async def send_many(self, payloads: Iterable[Buffer]) -> None:
        """Send payloads, all or none of them; otherwise as `send`."""
        await self._send(encode_many_parts(self._encoder, payloads))

    async def send_parts(self, parts: Sequence[Buffer]) -> None:
        """Send one payload, which is `parts`, one behind the other; otherwise as `send`.

        Large `bytes` among them, and plain memoryviews of such, are sent as they are; anything else is copied.
        """
        await self._send(encode_joined_parts(self._encoder, parts))

    async def send_batch(self, batch: FrameBatch) -> None:
        """Send the frames of `batch` on as they came, which has to be in this connection's format; otherwise as `send`."""
        await self._send(batch.wire_parts)

    def push_batch(self, batch: FrameBatch) -> bool:
        """Send the frames of `batch` on now, if the peer takes what is sent; otherwise send nothing and return False.

        For one message to many: it is encoded once, and nobody waits for a slow peer, whom a task of its own may serve with
        `send_batch`. Nothing is sent either after the end of the connection or of the own direction, and while a file is being
        sent. `batch` has to be in this connection's format.
        """
        return self._push(batch.wire_parts)

    async def send_file(
        self, file: File, offset: int = 0, count: int | None = None, *, prefix: Buffer = b"", block: int | None = None
    ) -> None:
        """Send one frame: `prefix`, and `count` bytes of `file` from `offset` on, None for all there are; otherwise as `send`.

        `file`: a descriptor, or what has a `fileno()`; its position is neither used nor moved. What is large does not pass
        through Python, but with TLS. What others send meanwhile follows it. `block`: send frames of so many bytes of the file
        instead, `prefix` in each; to wake a thread for each, as a call for each would, takes as long as sending 200 KiB.

        Raise `ShortFileError` if the file ends too early or cannot be read: zeros stand for what is missing in that frame, no
        other follows, and the connection goes on; OSError if the file's size cannot be asked for. When it is cancelled while
        the frame is on its way the connection is cut, as it is by `close`.
        """
        frame = FileFrame(self._encoder, file, offset, count, prefix=prefix, block=block)
        await self._send_file(frame)
        if frame.failure is not None:
            raise frame.failure

    def send_eof(self) -> None:
        """Tell the peer that no frame follows; receiving goes on. TLS cannot do that: it raises NotImplementedError."""
        self._raise_sending_end()
        if self._passage is not None:
            raise _errors.sending_file("send_eof")
        super().send_eof()
        self._sending_end = _errors.closed("send_eof")

    async def recv(self, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  the blocking twin has it too
        """Return the next payload; wait for it `timeout` seconds at most.

        It may time out or be cancelled at any byte: nothing is lost, and the next `recv` goes on from there.

        Raise `EndOfStreamError` at a clean end, `IncompleteFrameError` at a truncated one, another `FrameError` for what is no
        frame, OSError if the connection failed, TimeoutError after `timeout`, `MisuseError` while another task receives and
        after `close` or `detach`. Anything else is a bug.
        """
        if timeout is not None:
            async with asyncio.timeout(timeout):
                return await self.recv()
        while True:
            self._refuse_second_receiver()
            if self._taken >= self._limits.frames_per_turn:
                self._taken = 0
                await asyncio.sleep(0)  # a flood of frames that are here already must not keep others from their turn
            frames = self._received or self._decode_next()
            if frames:
                self._taken += 1
                self._owe_nothing()
                self._received = []
                return frames[0]
            await self._wait_for_bytes()

    async def recv_batch(self, timeout: float | None = None) -> FrameBatch:  # noqa: ASYNC109
        """Return all payloads that are here, as a `FrameBatch`; wait until there is one.

        Raise as `recv` does. The payloads before a bad frame are in the error's `frames`. After a batch, `detach` hands over
        what follows its last frame.
        """
        if timeout is not None:
            async with asyncio.timeout(timeout):
                return await self.recv_batch()
        while True:
            self._refuse_second_receiver()
            batch = self._take_received() or self._decode_next_batch()
            if batch:
                self._owe_nothing()
                return batch
            await self._wait_for_bytes(whole_payload=False)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.recv()
        except EndOfStreamError:
            raise StopAsyncIteration from None

    def change_format(self, format: FrameFormat) -> None:
        """Have frames of `format` from now on, in both directions: after a handshake that grants more, or another protocol.

        What came and belongs to no received payload is decoded by it, with errors' offsets counted from there; what was sent
        leaves as it was. Raise what `recv` raises once the stream has ended, and `MisuseError` as `detach` does.
        """
        self._raise_end()
        if self._received:
            raise _errors.received_waits("change_format")
        self._change_format(format)
        self._wake_receiver()

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """Hand over the transport, paused, and the bytes that came and belong to no received payload; the stream is closed.

        They are for another protocol: `transport.set_protocol(...)`, give it the bytes, `transport.resume_reading()`; or
        `loop.start_tls(...)`. Raise `MisuseError` when the stream is closed already, or if a payload was completed that a
        cancelled `recv` had begun: receive it first.
        """
        transport = self.transport
        if isinstance(self._end, MisuseError):
            raise _errors.again(self._end)
        if self._received:
            raise _errors.received_waits("detach")
        if self._passage is not None:
            raise _errors.sending_file("detach")
        tail = self._decoder.detach()
        self._flush()
        self._pause_reading(True)
        self._close(_errors.closed("detach"))
        self._transport = None
        if self._server is not None:
            self._server.disconnected(self)
        return transport, tail

    async def close(self, timeout: float = CLOSE_TIMEOUT) -> None:  # noqa: ASYNC109
        """End the connection once the kernel has taken what was sent, or cut it after `timeout` seconds. Safe to repeat.

        If the peer still sends, the cut may overtake the last payloads: have it send its end first, and receive that. Only
        after a bad frame, or when the server closes, it gets up to two seconds (`Limits.linger_timeout`) for that.
        """
        if self._transport is None:
            return
        if self._passage is not None:
            self.fail(_errors.aborted())
        self._flush()
        ended_by_us = self._draining or isinstance(self._end, FrameError)
        lingers = ended_by_us and not self._at_eof and not self._transport.is_closing()
        self._close(_errors.closed("close"))
        try:
            async with asyncio.timeout(timeout):
                if lingers:
                    await self._hang_up(self._transport)
                self._close_transport()
                await self._until_lost()
        except (TimeoutError, asyncio.CancelledError) as error:
            self._transport.abort()
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._received = []
            self._free()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    # asyncio's side

    def buffer_updated(self, nbytes: int) -> None:
        if self._deaf:
            return
        self._taken = 0
        # uvloop reads up to 32 times before a receiver that was awakened has its turn.
        waits = self._receiver is not None and not self._receiver.done()
        # Nothing is decoded that no recv() asked for: what follows may not be a frame, or it may be wanted in a batch.
        try:
            if self._in_place:
                self._received = self._decode_batch(nbytes)
            elif waits and self._wants_payload and not self._received:
                self._received = self._decode(nbytes, 1)
            else:
                self._decode(nbytes, 0)
        except FrameError:  # the decoder says so again to the recv() that is awakened
            self._deaf = True
            self._pause_reading(True)
            self._wake_receiver()
        if self._received or not (self._wants_payload or self._in_place):
            self._wake_receiver()
        # A second payload that was completed in place would take the place of the first.
        if not waits and (self._decoder.pending >= READ_LIMIT or (self._received and self._decoder.pending)):
            self._pause_reading(True)
        if waits or self._owed >= 0:
            self._set_deadline(nbytes, completed=bool(self._received))
        if self._idle_deadlines is not None and not self._reading_paused:
            self._idle_deadlines.restart(self)

    def eof_received(self) -> bool:
        self._at_eof = self._deaf = True
        self._owe_nothing()
        self._wake_receiver()
        return self.transport.can_write_eof() and not self._hanging_up  # the other direction goes on, where it can

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._lost is not None:
            self._lost.set()
        self._wake_receiver()

    # the server's side

    def is_late(self) -> bool:
        return super().is_late() and self._receiver is not None  # who does not receive cannot tell

    def drain(self) -> None:
        super().drain()
        self._end_between_frames()

    # own

    def is_peers_doing(self, error: Exception) -> bool:
        """Tell whether an exception that left a handler is how the connection went, and no fault of the handler's."""
        if isinstance(error, TimeoutError) and not error.args:  # of a recv()
            return True
        own = (self._end, self._failure)  # and not of another connection that the handler has
        return not isinstance(error, MisuseError) and any(type(error) is type(one) and str(error) == str(one) for one in own)

    def _refuse_second_receiver(self) -> None:
        if self._receiver is not None:
            raise _errors.receiving()

    async def _wait_for_bytes(self, *, whole_payload: bool = True) -> None:
        """Wait until there is a payload, or any bytes."""
        self._wants_payload = whole_payload
        self._receiver = asyncio.get_running_loop().create_future()
        self._taken = 0
        self._pause_reading(False)
        self._set_deadline(0, completed=False)
        try:
            await self._receiver
        finally:
            self._receiver = None
            self._wants_payload = True

    def _decode_next(self) -> list[bytes]:
        """Return the next payload if it is here, or raise why there will be none."""
        self._raise_end()
        try:
            frames = self._decoder.feed(b"", 1)
        except FrameError as error:
            self._note_bad_frame(error)
            raise
        if not frames:
            self._find_end()
        return frames

    def _take_received(self) -> FrameBatch | None:
        received, self._received = self._received, []
        if isinstance(received, list):
            return batch_of(self.format, received) if received else None
        return received

    def _decode_next_batch(self) -> FrameBatch:
        self._raise_end()
        try:
            batch = self._decoder.feed_batch(b"")
        except FrameError as error:
            self._note_bad_frame(error)
            raise
        if not batch:
            self._find_end()
        return batch

    def _note_bad_frame(self, error: FrameError) -> None:
        self._end = error.again()
        if self._server is not None:
            self._server.counters["bad_frames"] += 1

    def _raise_end(self) -> None:
        if self._end is not None:
            raise _errors.again(self._end)

    def _find_end(self) -> None:
        """Raise why nothing more will come, if that is so."""
        if self._at_eof or self._failure is not None:
            self._end = _errors.why_ended(self._decoder.finish) if self._at_eof else self._failure
            self._raise_end()
        if self._draining and not self._in_message and self._between_frames():
            self._end = EndOfStreamError()
            self._raise_end()

    def _end_between_frames(self) -> None:
        self._wake_receiver()  # which finds out where it is

    def _wake_receiver(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)

    async def _hang_up(self, transport: asyncio.Transport) -> None:
        """End the own direction, and wait a moment for the peer to take the last payloads and to hang up as well."""
        self._hanging_up = True
        self._pause_reading(False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.linger_timeout):
                if transport.can_write_eof():
                    self._write_eof()
                    await self._until_lost()
                while not self._gone and self._untaken():  # noqa: ASYNC110  TLS ends both at once, and nothing else tells
                    await asyncio.sleep(LOOK_SECONDS)

    async def _until_lost(self) -> None:
        if not self._gone:
            self._lost = self._lost or asyncio.Event()
            await self._lost.wait()

    def _close(self, reason: Exception) -> None:
        self._deaf = True
        self._end = self._end or reason
        self._sending_end = self._sending_end or reason
        self._wake_receiver()
