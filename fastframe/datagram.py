"""One frame a datagram, over UDP and Unix datagram sockets: on asyncio, and blocking.

    | length field | payload |     a datagram is this and no byte more, or it is refused and counted

A datagram has borders of its own, so its header is a check: what was cut or padded on the way, or is somebody else's, shows.
`DatagramCodec` makes and checks them without input or output. `DatagramSocket` is a blocking socket for them, `serve` puts one
on an event loop. Both take bursts: what has come since the last look, at most 32 datagrams, in one list.

Datagrams get lost, come twice, and overtake each other; so nothing here waits for a slow network. What the kernel has no room
for is dropped and counted, and so are ICMP errors, truncated datagrams, and those that are no frame. Nothing that a peer sends
raises. Whoever needs an answer asks again, after a pause that doubles (RFC 8085, section 3.1).
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Self

from . import _errors
from ._address import address_text
from ._burst import receive, send
from ._datagram_codec import DatagramCodec
from ._datagram_socket import RECEIVE_BUFFER, SocketFile, bind, open_connected
from ._errors import FrameError
from ._memory import contiguous
from ._parts import DEFAULT_FORMAT
from ._singly import BURST, MAX_DATAGRAM, Address, Datagram

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Buffer

    from ._format import FrameFormat

__all__ = [
    "BURST",
    "MAX_DATAGRAM",
    "Address",
    "Datagram",
    "DatagramCodec",
    "DatagramEndpoint",
    "DatagramServer",
    "DatagramSocket",
    "bind",
    "connect",
    "listen",
    "serve",
]


class _Port:
    """What the two fronts share: a non-blocking socket, its codec, what is counted."""

    def __init__(self, sock: socket.socket, format: FrameFormat | None) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._codec = None if format is None else DatagramCodec(format)
        self._address: Address = sock.getsockname()
        self._closed = False
        self.counters: Counter[str] = Counter()
        """How many datagrams were `received` and `sent`; how many were lost here, and why: `cut` (longer than
        `MAX_DATAGRAM`), `bad` (not one frame), `dropped` (the kernel had no room to send them); and errors of the network by
        the name of their errno, such as `ECONNREFUSED`, of which sending tells the one before."""

    @property
    def sockname(self) -> str:
        """The own address as text: `host:port`, `[v6]:port` or `unix:PATH`."""
        return address_text(self._address)

    @property
    def address(self) -> Address:
        """The own address, in the form that datagrams bring that of their sender."""
        return self._address

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, payload: Buffer, address: Address = None) -> bool:
        """Send a payload, to the connected peer or to `address`; return whether the kernel took it.

        `address`: as it came with a datagram. Raise as `DatagramCodec.encode` does, `MisuseError` after `close`, TypeError and
        the like for what is no address; socket.gaierror where it is a name that cannot be looked up, which takes its time too.
        """
        return self.send_many([(payload, address)]) == 1

    def send_many(self, datagrams: Iterable[tuple[Buffer, Address]]) -> int:
        """Send payloads, each to its address; return how many the kernel took. Otherwise as `send`; all or none are encoded."""
        if self._closed:
            raise _errors.closed("close")
        encoded: list[tuple[Buffer, Address]]
        if self._codec is not None:
            encode = self._codec.encode
            encoded = [(encode(payload), address) for payload, address in datagrams]
        elif isinstance(datagrams, list):
            encoded = datagrams
        else:  # a generator may refill one buffer for each
            encoded = [(contiguous(payload).tobytes(), address) for payload, address in datagrams]
        before, at = self.counters["sent"], 0
        while (at := send(self._socket, encoded, at, self.counters)) < len(encoded):
            self.counters["dropped"] += 1  # there is room for others: a full Unix socket is its reader's affair
            at += 1
        return self.counters["sent"] - before

    def _receive(self) -> list[Datagram]:
        """Return the payloads of a burst."""
        received = receive(self._socket, self.counters)
        if self._codec is not None:
            received = self._decode(self._codec, received)
        self.counters["received"] += len(received)
        return received

    def _decode(self, codec: DatagramCodec, received: list[Datagram]) -> list[Datagram]:
        payloads: list[Datagram] = []
        for datagram, address in received:
            try:
                payloads.append((codec.decode(datagram), address))
            except FrameError:
                self.counters["bad"] += 1
        return payloads

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._socket.close()


class DatagramSocket(_Port):
    """A blocking socket for datagrams; `listen` and `connect` make it, or wrap one. One thread may receive while another sends.

    `socket`: a datagram socket, which belongs to this object from now on. `format`: None for datagrams without a frame.
    """

    def __init__(self, socket: socket.socket, format: FrameFormat | None = DEFAULT_FORMAT) -> None:
        super().__init__(socket, format)
        self._file: SocketFile | None = None
        self._waiting: deque[Datagram] = deque()
        self._poll = select.poll()
        self._poll.register(socket, select.POLLIN)

    @property
    def peername(self) -> str:
        """The connected peer's address as text."""
        return address_text(self._socket.getpeername())

    def recv(self, timeout: float | None = None) -> Datagram:
        """Return the next payload and its sender's address; wait for it `timeout` seconds at most, zero just looks.

        Raise TimeoutError after the time, `MisuseError` after `close`. Anything else is a bug.
        """
        if not self._waiting:
            self._waiting.extend(self._wait(timeout))
        return self._waiting.popleft()

    def recv_many(self, timeout: float | None = None) -> list[Datagram]:
        """Return what has come, at least one payload with its sender's address and at most `BURST`; otherwise as `recv`."""
        if not self._waiting:
            return self._wait(timeout)
        received = list(self._waiting)
        self._waiting.clear()
        return received

    def close(self) -> None:
        """Close the socket, and remove the file that `listen` made for it; safe to repeat."""
        self._close()
        if self._file is not None:
            self._file.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _wait(self, timeout: float | None) -> list[Datagram]:
        if self._closed:
            raise _errors.closed("close")
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (received := self._receive()):
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                raise _errors.timed_out()
            self._poll.poll(remaining and 1000 * remaining)
        return received


class DatagramEndpoint(_Port):
    """A socket on an event loop, of a `DatagramServer`; what comes is handed to the handler in bursts.

    Its socket is not connected: under uvloop an ICMP error would end the reading from a connected one for good, since libuv
    takes POLLERR for the end. Nor is IP_RECVERR set: the error of one peer would fail the sending to the next.
    """

    def __init__(self, sock: socket.socket, handler: Handler, format: FrameFormat | None = DEFAULT_FORMAT) -> None:
        super().__init__(sock, format)
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.fileno(), self._hand_out)

    async def close(self, grace: float = 0.0) -> None:
        """Close the socket; what has come by then is handed out before, for `grace` seconds at most."""
        if self._closed:
            return
        deadline = self._loop.time() + grace
        try:
            while not self._closed and self._loop.time() < deadline and self._hand_out():  # noqa: ASYNC110
                await asyncio.sleep(0)  # others' turn
        finally:
            self._close()

    def _close(self) -> None:
        if not self._closed:
            self._loop.remove_reader(self.fileno())
        super()._close()

    def _hand_out(self) -> bool:
        if received := self._receive():
            self._handler(self, received)
        return bool(received)


Handler = Callable[[DatagramEndpoint, list[Datagram]], None]


class DatagramServer:
    """What `serve` returns: an endpoint for each address, and what they counted."""

    def __init__(self, endpoints: list[DatagramEndpoint], files: Iterable[SocketFile] = ()) -> None:
        self.endpoints = endpoints
        self._files = list(files)

    @property
    def addresses(self) -> list[str]:
        """Where it receives, each as text: `host:port`, `[v6]:port` or `unix:PATH`."""
        return [endpoint.sockname for endpoint in self.endpoints if endpoint.fileno() != -1]

    @property
    def counters(self) -> Counter[str]:
        """What its endpoints counted, together: see `DatagramEndpoint.counters`."""
        return sum((endpoint.counters for endpoint in self.endpoints), Counter())

    async def close(self, grace: float = 0.0) -> None:
        """Close the endpoints; what has come by then is handed out before, for `grace` seconds at most.

        A file that `serve` made is removed, one of `sockets` is not.
        """
        for file in self._files:
            file.remove()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        try:
            for endpoint in self.endpoints:  # meanwhile the loop reads from the others
                await endpoint.close(deadline - loop.time())
        finally:  # also if a handler fails
            for endpoint in self.endpoints:
                await endpoint.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()


async def serve(
    handler: Handler,
    host: str | None = None,
    port: int | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    sockets: Iterable[socket.socket] | None = None,
    format: FrameFormat | None = DEFAULT_FORMAT,
    receive_buffer: int = RECEIVE_BUFFER,
) -> DatagramServer:
    """Receive on `host` and `port` (0 picks a free one), the Unix socket `path`, or `sockets` from `bind`; `async with` closes.

    `handler`: `def handler(endpoint, received)`, called with each burst: payloads with their senders' addresses, as
    `endpoint.send_many` takes them. It must not block: while it runs, nothing else on the loop does. What it raises goes to
    the loop's exception handler, and costs its burst. `format`: None for datagrams without a frame. `receive_buffer`: see
    `bind`.

    Raise OSError if the address cannot be bound, ValueError unless there is one, and if no datagram can carry such a frame.
    """
    _check(format)
    files: list[SocketFile] = []
    if sockets is None:
        sockets = await asyncio.to_thread(bind, host, port, path=path, receive_buffer=receive_buffer)
        files = [SocketFile(sock) for sock in sockets]
    return DatagramServer([DatagramEndpoint(sock, handler, format) for sock in sockets], files)


def listen(
    host: str | None = None,
    port: int | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    format: FrameFormat | None = DEFAULT_FORMAT,
    receive_buffer: int = RECEIVE_BUFFER,
) -> DatagramSocket:
    """Receive on `host` and `port` (0 picks a free one), or on the Unix socket `path`; `with` closes the socket.

    A name with several addresses binds the first. `format`: None for datagrams without a frame. Raise as `serve` does.
    """
    _check(format)
    first, *others = bind(host, port, path=path, receive_buffer=receive_buffer)
    for other in others:
        other.close()
    listening = DatagramSocket(first, format)
    listening._file = SocketFile(first)  # noqa: SLF001
    return listening


def connect(
    host: str | None = None,
    port: int | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    format: FrameFormat | None = DEFAULT_FORMAT,
    receive_buffer: int = RECEIVE_BUFFER,
) -> DatagramSocket:
    """Exchange datagrams with one peer alone: the kernel refuses others' and tells of ICMP errors; `with` closes the socket.

    Nothing is sent yet, so nothing tells whether anybody is there. A name with several addresses means the first that there is
    a way to. Raise OSError if there is none, ValueError as `serve` does.
    """
    _check(format)
    return DatagramSocket(open_connected(host, port, path, receive_buffer), format)


def _check(format: FrameFormat | None) -> None:
    """Raise what `DatagramCodec` raises, before there is a socket to close."""
    if format is not None:
        DatagramCodec(format)
