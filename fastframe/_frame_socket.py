"""FrameSocket: the blocking front's connection, the twin of `_stream.FrameStream`.

It receives into the decoder's memory and sends what the encoder made; it decodes a payload when `recv` asks for one, and not
before, so that what follows may belong to another protocol (`detach`). Its timeouts may strike at any byte: what was received
stays in the decoder, what was not sent yet stays here and leaves first the next time.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Self

from . import _errors
from ._address import address_text
from ._codec import Decoder, Encoder, FrameBatch
from ._errors import EndOfStreamError, MisuseError
from ._file_frame import FileFrame, is_writable
from ._parts import DEFAULT_FORMAT, OnOversize
from ._send_queue import MAX_PARTS, SendQueue

if TYPE_CHECKING:
    from socket import socket as Socket  # noqa: N812  the class has a property of that name
    from types import TracebackType

    from typing_extensions import Buffer

    from ._file_frame import File
    from ._format import FrameFormat

# A generator instead makes the sending of a small frame a quarter slower, kernel included.
NO_DEADLINE: Final = contextlib.nullcontext(lambda: None)
CLOSE_TIMEOUT: Final = 5.0  # seconds for a peer to take what a timed-out send left
# What leaves a socket sound, so that the call may be repeated. InterruptedError: what a signal handler of the program raised.
NOT_NOW: Final = (TimeoutError, BlockingIOError, InterruptedError)


class FrameSocket:
    """A connection to receive payloads from and to send payloads on; `connect` and `FrameListener` make it, or wrap a socket.

    `socket`: a connected stream socket, which belongs to this object from now on. A timeout that is set on it holds where
    `timeout` is not given. Iteration yields payloads and stops at a clean end.

    One thread may receive while another sends if neither gives a `timeout`, which is the socket's and so both threads'; with
    TLS only after the handshake, which is the first `recv` or `send` of an accepted connection.
    """

    def __init__(self, socket: Socket, format: FrameFormat = DEFAULT_FORMAT, on_oversize: OnOversize = "raise") -> None:
        self._socket = socket
        self._decoder = Decoder(format, on_oversize)
        self._on_oversize = on_oversize
        self._skipped = 0  # by a decoder of a former format
        self._unsent = SendQueue(Encoder(format), copy_mutable=True)
        tls_not_now = _tls_not_now(socket)
        self._has_tls = bool(tls_not_now)
        self._not_now = NOT_NOW + tls_not_now
        self._max_parts = 1 if self._has_tls else MAX_PARTS  # TLS has no gathered writes
        self._end: Exception | None = None  # what recv() raises from now on
        self._sending_end: Exception | None = None  # what send() raises from now on

    @property
    def format(self) -> FrameFormat:
        """The `FrameFormat` of both directions."""
        return self._decoder.format

    @property
    def socket(self) -> Socket:
        """The socket underneath. Bytes that are read from it past this object are lost to it."""
        return self._socket

    @property
    def peername(self) -> str:
        """The peer's address as text: `host:port`, `[v6]:port` or `unix:PATH`."""
        return address_text(self._socket.getpeername())

    @property
    def sockname(self) -> str:
        """The own address as text."""
        return address_text(self._socket.getsockname())

    @property
    def skipped(self) -> int:
        """How many oversize frames were skipped."""
        return self._skipped + self._decoder.skipped

    def abort(self) -> None:
        """Cut the connection now, with a reset where there is such a thing; what was not sent yet is lost."""
        self._close(_errors.closed("abort"))
        with contextlib.suppress(OSError):  # a Unix socket has no such option, and a failed one is cut already
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def send(self, payload: Buffer, timeout: float | None = None) -> None:
        """Send a payload, within `timeout` seconds.

        Raise as `Encoder.encode` does; OSError if the connection failed; `MisuseError` after `send_eof`, `close` or `detach`;
        TimeoutError (BlockingIOError on a non-blocking socket) if the peer takes too long: the frame is then accepted, and what
        is left of it goes out first with the next `send` or `flush`. Anything else is a bug.
        """
        self._unsent.put(payload)
        self._send(timeout)

    def send_many(self, payloads: Iterable[Buffer], timeout: float | None = None) -> None:
        """Send payloads, all or none of them; otherwise as `send`."""
        self._unsent.put_many(payloads)
        self._send(timeout)

    def send_parts(self, parts: Sequence[Buffer], timeout: float | None = None) -> None:
        """Send one payload, which is `parts`, one behind the other; otherwise as `send`.

        Large `bytes` among them are sent as they are; anything else is copied.
        """
        self._unsent.put_parts(parts)
        self._send(timeout)

    def send_batch(self, batch: FrameBatch, timeout: float | None = None) -> None:
        """Send the frames of `batch` on as they came, which has to be in this connection's format; otherwise as `send`."""
        self._unsent.put_batch(batch)
        self._send(timeout)

    def send_file(
        self, file: File, offset: int = 0, count: int | None = None, *, prefix: Buffer = b"", timeout: float | None = None
    ) -> None:
        """Send one frame: `prefix`, and `count` bytes of `file` from `offset` on, None for all there are; otherwise as `send`.

        `file`: a descriptor, or what has a `fileno()`; its position is neither used nor moved. What is large does not pass
        through Python, but with TLS, and what a timeout leaves of it, which is read then.

        Raise `ShortFileError` if the file ends too early or cannot be read: zeros stand for what is missing, and the connection
        goes on; OSError if the file's size cannot be asked for.
        """
        frame = FileFrame(self._unsent.encoder, file, offset, count, prefix=prefix)
        try:
            if frame.in_one:
                self.send(frame.payload(), timeout)
            else:
                self._send_file(frame, timeout)
        except self._not_now:
            if frame.failure is None:
                raise
        if frame.failure is not None:
            raise frame.failure

    def flush(self, timeout: float | None = None) -> None:
        """Send what a `send` that timed out has left; raise as `send` does."""
        self._send(timeout)

    def send_eof(self) -> None:
        """Tell the peer that no frame follows; receiving goes on. TLS cannot do that: it raises NotImplementedError."""
        self.flush()
        if self._has_tls:
            raise _errors.no_half_close()
        self._socket.shutdown(socket.SHUT_WR)
        self._sending_end = _errors.closed("send_eof")

    def recv(self, timeout: float | None = None) -> bytes:
        """Return the next payload; wait for it `timeout` seconds at most.

        It may time out at any byte: nothing is lost, and the next `recv` goes on from there.

        Raise `EndOfStreamError` at a clean end, `IncompleteFrameError` at a truncated one, another `FrameError` for what is no
        frame, OSError if the connection failed, TimeoutError after the time (BlockingIOError on a non-blocking socket),
        `MisuseError` after `close` or `detach`. Anything else is a bug.
        """
        if self._end is not None:
            raise _errors.again(self._end)
        frames = self._decoder.feed(b"", 1)
        if not frames:
            with self._deadline(timeout) as limit_call:
                while not frames:
                    limit_call()
                    frames = self._decoder.buffer_updated(self._receive(), 1)
        return frames[0]

    def recv_batch(self, timeout: float | None = None) -> FrameBatch:
        """Return all payloads that are here, as a `FrameBatch`; wait until there is one, `timeout` seconds at most.

        Raise as `recv` does. The payloads before a bad frame are in the error's `frames`. After a batch, `detach` hands over
        what follows its last frame.
        """
        if self._end is not None:
            raise _errors.again(self._end)
        batch = self._decoder.feed_batch(b"")
        if not batch:
            with self._deadline(timeout) as limit_call:
                while not batch:
                    limit_call()
                    batch = self._decoder.buffer_updated_batch(self._receive())
        return batch

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        try:
            return self.recv()
        except EndOfStreamError:
            raise StopIteration from None

    def change_format(self, format: FrameFormat) -> None:
        """Have frames of `format` from now on, in both directions: after a handshake that grants more, or another protocol.

        What came and belongs to no received payload is decoded by it, with errors' offsets counted from there; what was sent
        leaves as it was. Raise what `recv` raises once the stream has ended, and `MisuseError` as `detach` does.
        """
        if self._end is not None:
            raise _errors.again(self._end)
        self._decoder.feed(b"", 0)  # one that failed says so
        decoder, encoder = Decoder(format, self._on_oversize), Encoder(format)
        decoder.feed(self._decoder.detach(), 0)
        self._skipped = self.skipped
        self._decoder, self._unsent.encoder = decoder, encoder

    def detach(self) -> tuple[Socket, bytes]:
        """Hand over the socket, and the bytes that came and belong to no received payload; this object is closed then.

        They are for another protocol. Raise TimeoutError while a `send` that timed out has left something, `MisuseError` when
        this is closed already.
        """
        if isinstance(self._end, MisuseError):
            raise _errors.again(self._end)
        self.flush()
        tail = self._decoder.detach()
        self._close(_errors.closed("detach"))
        return self._socket, tail

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """End the connection; first send what a `send` that timed out has left, within `timeout` seconds. Safe to repeat."""
        if self._end is not None and self._end is self._sending_end:  # closed, aborted or detached before
            return
        with contextlib.suppress(OSError, MisuseError):
            self.flush(timeout)
        self._close(_errors.closed("close"))
        if self._has_tls:
            self._socket.settimeout(0)  # say that nothing follows, but do not wait for the answer
            with contextlib.suppress(OSError, ValueError):
                self._socket.unwrap()  # type: ignore[attr-defined]  # it is an SSLSocket
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    # own

    def _send(self, timeout: float | None) -> None:
        self._raise_sending_end()
        with self._deadline(timeout) as limit_call:
            self._send_unsent(limit_call)

    def _send_unsent(self, limit_call: Callable[[], None]) -> None:
        while self._unsent:
            limit_call()
            try:
                self._unsent.advance(self._send_some())
            except self._not_now:
                raise
            except OSError as error:
                self._sending_end = _errors.again(error)
                raise

    def _raise_sending_end(self) -> None:
        if self._sending_end is not None:
            self._unsent.clear()
            raise _errors.again(self._sending_end)

    def _send_file(self, frame: FileFrame, timeout: float | None) -> None:
        self._raise_sending_end()
        send = self._send_piece if self._has_tls else self._send_from
        try:
            with self._deadline(timeout) as limit_call:
                self._send_unsent(limit_call)
                while not frame.done:
                    send(frame, limit_call)
        finally:
            if self._sending_end is None:
                self._unsent.put_encoded(frame.take_all())

    def _send_piece(self, frame: FileFrame, limit_call: Callable[[], None]) -> None:
        self._unsent.put_encoded(frame.take())
        self._send_unsent(limit_call)

    def _send_from(self, frame: FileFrame, limit_call: Callable[[], None]) -> None:
        limit_call()
        try:
            self._wait_until_writable()
            frame.send_some(self._socket)
        except BlockingIOError:
            if not self._socket.gettimeout():
                raise
        except self._not_now:
            raise
        except OSError as error:
            self._sending_end = _errors.again(error)
            raise

    def _wait_until_writable(self) -> None:
        """Wait as long as a call of the socket would: `os.sendfile` knows nothing of a timeout that Python keeps."""
        timeout = self._socket.gettimeout()
        if timeout and not is_writable(self._socket, timeout):
            raise _errors.timed_out()

    def _send_some(self) -> int:
        parts = self._unsent.buffers(self._max_parts)
        return self._socket.send(parts[0]) if len(parts) == 1 else self._socket.sendmsg(parts)

    def _receive(self) -> int:
        """Read once into the decoder's memory, and return how many bytes."""
        try:
            nbytes = self._socket.recv_into(self._decoder.get_buffer())
        except self._not_now:
            self._decoder.buffer_updated(0)  # an idle connection holds no memory
            raise
        except OSError as error:  # to be said again: the next read might look like a clean end
            self._end = _errors.again(error)
            raise
        if nbytes == 0:
            self._end = _errors.why_ended(self._decoder.finish)
            raise _errors.again(self._end)
        return nbytes

    def _deadline(self, timeout: float | None) -> AbstractContextManager[Callable[[], None]]:
        """Return a context with a function that limits the next call on the socket to what is left of `timeout`."""
        return NO_DEADLINE if timeout is None else self._limited(timeout)

    @contextlib.contextmanager
    def _limited(self, timeout: float) -> Iterator[Callable[[], None]]:
        before, deadline, tried = self._socket.gettimeout(), time.monotonic() + timeout, False

        def limit_call() -> None:
            nonlocal tried
            remaining = deadline - time.monotonic()
            if remaining <= 0 and tried:
                raise _errors.timed_out()
            tried = True
            self._socket.settimeout(max(remaining, 1e-6))  # zero would make it non-blocking: even then try once, and time out

        try:
            yield limit_call
        finally:
            if self._socket.fileno() != -1:
                self._socket.settimeout(before)

    def _close(self, reason: Exception) -> None:
        self._end = self._sending_end = reason
        self._unsent.clear()


def _tls_not_now(connection: socket.socket) -> tuple[type[OSError], ...]:
    """Return what a TLS socket raises besides `NOT_NOW` and stays sound; nothing for any other socket."""
    if type(connection) is socket.socket:
        return ()
    import ssl  # noqa: PLC0415  17 ms of import; who has a TLS socket has paid them already

    return (ssl.SSLWantReadError, ssl.SSLWantWriteError) if isinstance(connection, ssl.SSLSocket) else ()
