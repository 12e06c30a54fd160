"""Raw byte streams for the tutorial servers, whose wire has a frame here and there and nothing but bytes elsewhere.

`aio.FrameServer` accepts, counts, drains and cuts connections, and runs `async handler(stream)` for each. Its connections need
not speak frames: a `RawStream` is one that hands out bytes, and one frame at a time where the handler says that there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from fastframe import Decoder, EndOfStreamError, FrameError, aio

from .errors import OperationError
from .reaching import address_text

if TYPE_CHECKING:
    import socket
    import ssl as tls

    from fastframe import FrameFormat

BLOCK: Final = 64 * 1024  # bytes that are received or sent at a time; a peer has `write_timeout` to take each
# Nothing marks the end of a raw request: it ends when nothing more has come for so long. A sender's kernel may hold the second
# piece of one back until the first is acknowledged, which Linux delays by 40 ms at least (RFC 1122, 4.2.3.2 and 4.2.3.4).
QUIET_SECONDS: Final = 0.1
MOST_REQUEST: Final = 64 * 1024  # bytes of a raw request: more than any line that somebody types


Handler: TypeAlias = Callable[["RawStream"], Awaitable[None]]


async def serve(
    handler: Handler,
    *,
    sockets: Sequence[socket.socket],
    ssl: tls.SSLContext | None,
    limits: aio.Limits,
) -> StreamServer:
    """Serve raw streams on listening sockets, as `host.run` wants it.

    A handler need not catch what its peer does; it is over when the connection has been hung up after it.
    """
    return StreamServer(handler, sockets=sockets, ssl=ssl, limits=limits)


class StreamServer(aio.FrameServer):
    """A `FrameServer` whose connections are `RawStream`s."""

    def __init__(
        self,
        handler: Handler,
        *,
        sockets: Sequence[socket.socket],
        ssl: tls.SSLContext | None,
        limits: aio.Limits,
    ) -> None:
        make: Callable[[], Any] = RawStream  # which is all that a server asks of its connections, and decodes nothing
        super().__init__(make, handler, sockets, limits=limits, ssl=ssl, path=None)

    def overdue(self, stream: RawStream) -> None:
        """Cut a connection whose message does not come on."""
        self._frame_overdue(stream)  # type: ignore[arg-type]


class RawStream(asyncio.Protocol):
    """A connection to receive bytes from and to send bytes on, for one task at a time.

    All methods raise OSError if the connection fails, or a limit ended it. Anything else is a bug.
    """

    transport: asyncio.Transport
    peername: str  # `host:port`, `[v6]:port`, or `unix:`

    def __init__(self) -> None:
        self.in_message = False  # while it is, a server that closes with grace lets `recv` wait on
        self.has_left = asyncio.Event()  # the peer sends nothing more: it has ended its direction, or is gone
        self._received = bytearray()
        self._heard = asyncio.Event()  # there may be news for who receives
        self._writable = asyncio.Event()
        self._lost = asyncio.Event()
        self._failure: Exception | None = None
        self._is_draining = False
        self._is_deaf = False  # what comes is thrown away
        self._waited = 0.0  # seconds, for what has come of a message since anything was sent, or for the last 64 KiB of it
        self._came = 0  # bytes of that

    async def recv(self, most: int = BLOCK) -> bytes:
        """Return up to `most` bytes as soon as there are some; b"" at the end, which a closing server is between messages."""
        clock = asyncio.get_running_loop().time
        began = clock()
        with self._owing(self._server.frame_deadlines if self.in_message else self._server.idle_deadlines):
            while not (self._received or self.has_left.is_set() or (self._is_draining and not self.in_message)):
                self._heard.clear()
                await self._heard.wait()
        if not self._received:
            self._raise_failure()
        data = bytes(self._received[:most])
        del self._received[:most]
        self._pause_reading(False)
        if self.in_message:
            self._note_pace(clock() - began, len(data))
        else:
            self._waited, self._came = 0.0, 0
        return data

    async def recv_request(self, most: int = MOST_REQUEST) -> bytes:
        """Return a raw request: what comes until it ends in a line feed, or nothing comes for a while; b"" at the end.

        Raise OperationError (too_large) once all of it has come, and was thrown away: no part of it is another request.
        """
        self.in_message = False
        request = await self.recv()
        size = len(request)
        self.in_message = bool(request)
        while request and not request.endswith(b"\n") and (more := await self._recv_soon()):
            size += len(more)
            request = request + more if size <= most else more
        if size > most:
            raise OperationError("too_large", f"the request has {size} bytes, and {most} are allowed")
        return request

    async def recv_frame(self, format: FrameFormat) -> bytes:
        """Return the payload of the frame that comes next; what follows it stays raw.

        Raise `EndOfStreamError` if nothing comes, another `FrameError` if it is cut off or no frame.
        """
        self.in_message = False
        decoder = Decoder(format)
        chunk = await self.recv()
        if not chunk:
            raise EndOfStreamError
        self.in_message = True
        try:
            while not (payloads := decoder.feed(chunk, 1)):
                if not (chunk := await self.recv()):
                    decoder.finish()
        except FrameError:
            self._server.counters["bad_frames"] += 1
            raise
        self._received[:0] = decoder.detach()
        return payloads[0]

    async def sendall(self, data: bytes | memoryview) -> None:
        """Send all of `data`, as fast as the peer takes it."""
        self._waited = 0.0
        view = memoryview(data)
        for start in range(0, len(view), BLOCK):
            self._raise_failure()
            self.transport.write(view[start : start + BLOCK])
            with self._owing(self._server.write_deadlines):
                await self._writable.wait()
            await asyncio.sleep(0)  # a peer that takes as fast as this sends would keep others from their turn
        self._raise_failure()

    async def left(self) -> None:
        """Return when the peer is gone, or ended its direction `linger_timeout` ago: it may still want its answer.

        Return as well when so much has come that nothing more is read: who leaves behind that is not seen to leave.
        """
        while not self.has_left.is_set():
            if len(self._received) >= BLOCK:
                return
            self._heard.clear()
            await self._heard.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._server.limits.linger_timeout):
                await self._lost.wait()

    async def hang_up(self) -> None:
        """End the own direction, let the peer take the last bytes and hang up as well, and close.

        A close while something is unread resets the connection, which destroys what is on its way (RFC 2525, 2.17).
        """
        self._is_deaf = True
        self._received.clear()
        self._pause_reading(False)
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(self._server.limits.linger_timeout):
                if not self._lost.is_set():
                    self.transport.write_eof()
                await self.has_left.wait()
                self.transport.close()
                await self._lost.wait()
        self.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None or isinstance(error, EndOfStreamError):
            await self.hang_up()
        self.abort()

    # the server's side

    def serve(self, server: StreamServer) -> None:
        self._server = server

    def drain(self) -> None:
        self._is_draining = True
        self._heard.set()

    def abort(self) -> None:
        if hasattr(self, "transport"):  # a server that closes cuts connections that are still being made, too
            self.transport.abort()

    def fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self.abort()

    def is_late(self) -> bool:
        return True

    def is_slow(self) -> bool:
        return True

    def is_peers_doing(self, error: Exception) -> bool:
        return isinstance(error, FrameError | ConnectionError)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's and aiofastnet's are not derived from it
        peer = transport.get_extra_info("peername")
        self.peername = address_text(*peer[:2]) if isinstance(peer, tuple) else "unix:"  # whose clients have no names
        self._writable.set()
        self._server.connected(self)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        if not self._is_deaf:
            self._received += data
            self._pause_reading(len(self._received) >= BLOCK)
            self._heard.set()

    def eof_received(self) -> bool:
        self.has_left.set()
        self._heard.set()
        return True  # the other direction goes on

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._failure = self._failure or exc or ConnectionAbortedError("the connection was cut")
        for news in (self.has_left, self._heard, self._writable, self._lost):
            news.set()
        self._server.disconnected(self)  # type: ignore[arg-type]

    # own

    def _note_pace(self, seconds: float, count: int) -> None:
        """Cut who takes longer for a message, or 64 KiB of it, than silence is allowed: a trickle prolongs that for ever."""
        if self._came >= BLOCK:
            self._waited, self._came = 0.0, 0
        self._waited += seconds
        self._came += count
        if self._waited > (self._server.limits.frame_timeout or math.inf):
            self._server.overdue(self)

    def _pause_reading(self, paused: bool) -> None:
        if not self.transport.is_closing() and not self.has_left.is_set():
            (self.transport.pause_reading if paused else self.transport.resume_reading)()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _recv_soon(self) -> bytes:
        """Return what comes within a moment, b"" if nothing does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                return await self.recv()
        await asyncio.sleep(0)  # where the machine was busy, something may have come in time that nobody looked at yet
        return await self.recv() if self._received else b""

    @contextlib.contextmanager
    def _owing(self, deadlines: Any) -> Iterator[None]:
        """Have the server cut the connection if the body takes longer than those deadlines allow."""
        deadlines.restart(self)
        try:
            yield
        finally:
            deadlines.stop(self)
