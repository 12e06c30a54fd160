"""FrameServer: the listening sockets of a server, and every connection that came through them until it is gone.

    accepted -> TLS handshake -> connected -> ... -> disconnected

A connection has its place from the moment it is accepted, so that those that never get further count, too. What peers owe, a
frame that they have begun or the reading of what was sent to them, is watched here for all of them at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl as tls
import struct
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from . import _errors
from ._accept import Acceptor
from ._address import address_text, remove_socket, socket_inode
from ._connecting import connector
from ._deadlines import Deadlines
from ._endpoint import Endpoint

if TYPE_CHECKING:
    from ._limits import Limits

logger = logging.getLogger("fastframe.aio")

# Python knows it from 3.12 on, and these are the numbers in Linux's and macOS's netinet/tcp.h.
TCP_NOTSENT_LOWAT: Final = {"linux": 25, "darwin": 0x201}.get(sys.platform)
KEEPALIVE_PROBES: Final = 3
COUNTERS: Final = (
    "accepted",  # connections
    "refused",  # since their source had its share already
    "handshakes_failed",
    "bad_frames",  # connections that ended with one
    "frames_overdue",
    "writes_overdue",
    "idle",  # cut for their silence
    "cut",  # when the server closed, since they had not ended in time
)

Handler: TypeAlias = Callable[[Any], Awaitable[None]]


class FrameServer:
    """What `serve` returns: the listening sockets and the connections that came through them.

    `counters`: how many connections were "accepted", "refused" (their source had its share), "handshakes_failed", ended by
    "bad_frames", cut because of "frames_overdue", "writes_overdue" or as "idle", or "cut" when the server closed.
    """

    def __init__(
        self,
        make: Callable[[], Endpoint],
        handler: Handler | None,
        listeners: Sequence[socket.socket],
        *,
        limits: Limits,
        ssl: tls.SSLContext | None,
        path: str | None,
    ) -> None:
        self.limits = limits
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.frame_deadlines = Deadlines[Endpoint](limits.frame_timeout, self._frame_overdue)
        self.write_deadlines = Deadlines[Endpoint](limits.write_timeout, self._write_overdue)
        self.idle_deadlines = Deadlines[Endpoint](limits.idle_timeout, self._idle_too_long)
        self._make = make
        self._handler = handler
        self._has_tls = ssl is not None
        self._connect = connector(ssl, limits)
        self._path = path
        self._inode = socket_inode(path) if path is not None else None
        self._endpoints: dict[Endpoint, str] = {}  # and where they come from
        self._sources: dict[str, int] = {}  # how many come from there
        self._opening: dict[Endpoint, socket.socket] = {}  # those in their handshake
        self._openers: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._is_cut = False
        _prepare(listeners, limits)
        self._acceptor = Acceptor(listeners, self._has_room, self._accepted)
        self._acceptor.resume()

    @property
    def addresses(self) -> list[str]:
        """Where it listens, each as text: `host:port`, `[v6]:port` or `unix:PATH`."""
        return [] if self._closed else [address_text(listener.getsockname()) for listener in self._acceptor.listeners]

    @property
    def connections(self) -> int:
        """How many connections there are, those in their TLS handshake included."""
        return len(self._endpoints)

    @property
    def accepting(self) -> bool:
        """Whether the next connection would be accepted at once: there is room, and the server is not closed."""
        return not self._acceptor.paused

    async def close(self, grace: float = 0.0) -> None:
        """Stop listening, have each connection end between two frames, and cut those that have not within `grace` seconds.

        A protocol answers what has come, and hangs up; a handler's `recv` raises EndOfStreamError when it would wait between
        two frames. A second call with less grace hurries the first. A handler may call it, and is waited for by nobody then.
        """
        self._tasks.discard(asyncio.current_task())
        self._closed = True
        self._acceptor.close()
        if self._path is not None:
            remove_socket(self._path, self._inode)
            self._path = None
        if self._has_tls:
            self._end_handshakes()
        if grace > 0:
            for endpoint in list(self._endpoints):
                endpoint.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._idle.wait()
                while self._tasks:
                    await asyncio.wait(self._tasks)
        await self._cut()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await self.close()

    # the endpoints' side

    def connected(self, endpoint: Endpoint) -> None:
        self._opening.pop(endpoint, None)
        if self._is_cut:
            endpoint.abort()
            return
        endpoint.transport.set_write_buffer_limits(self.limits.high_water, self.limits.low_water)
        self.idle_deadlines.restart(endpoint)
        if self._handler is not None:
            task = asyncio.get_running_loop().create_task(self._handle(self._handler, endpoint))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._closed:
            endpoint.drain()

    def disconnected(self, endpoint: Endpoint) -> None:
        source = self._endpoints.pop(endpoint, None)
        if source is None:
            return
        self._opening.pop(endpoint, None)
        for deadlines in (self.frame_deadlines, self.write_deadlines, self.idle_deadlines):
            deadlines.stop(endpoint)
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]
        if not self._endpoints:
            self._idle.set()
        self._acceptor.resume()

    # own

    def _has_room(self) -> bool:
        most = self.limits.max_connections
        return most is None or len(self._endpoints) < most

    def _accepted(self, connection: socket.socket, address: Any) -> None:
        source = source_of(connection.family, address)
        most = self.limits.max_connections_per_source
        if most is not None and self._sources.get(source, 0) >= most:
            self.counters["refused"] += 1
            logger.debug("refused a connection of %s, which has %d already", source, most)
            _reset(connection)
            return
        try:
            endpoint = self._make()
        except BaseException:
            connection.close()
            raise
        self.counters["accepted"] += 1
        connection.setblocking(False)
        endpoint.serve(self)
        self._endpoints[endpoint] = source
        self._sources[source] = self._sources.get(source, 0) + 1
        self._idle.clear()
        task = asyncio.get_running_loop().create_task(self._open(endpoint, connection))
        self._opening[endpoint] = connection
        self._openers.add(task)
        task.add_done_callback(self._openers.discard)

    async def _open(self, endpoint: Endpoint, connection: socket.socket) -> None:
        try:
            await self._connect(endpoint, connection)
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            if not self._closed:
                self.counters["handshakes_failed"] += 1
            elif not self._is_cut:  # else it is counted already
                self.counters["cut"] += 1
            logger.debug("a TLS handshake failed: %s", error)
            self.disconnected(endpoint)

    def _end_handshakes(self) -> None:
        """End connections that are being made as their peers would: uvloop leaves those open whose making is cancelled."""
        for connection in self._opening.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    async def _handle(self, handler: Handler, stream: Any) -> None:
        peer = stream.peername
        try:
            async with stream:
                await handler(stream)
        except Exception as error:
            if stream.is_peers_doing(error):
                logger.debug("connection of %s ended: %s", peer, error)
                return
            context = {"message": f"the handler of {peer} failed", "exception": error, "protocol": stream}
            asyncio.get_running_loop().call_exception_handler(context)

    def _frame_overdue(self, endpoint: Endpoint) -> None:
        if endpoint.is_late():
            self.counters["frames_overdue"] += 1
            endpoint.fail(_errors.frame_overdue(self.limits.frame_timeout or 0.0))

    def _write_overdue(self, endpoint: Endpoint) -> None:
        if endpoint.is_slow():
            self.counters["writes_overdue"] += 1
            endpoint.fail(_errors.write_overdue(self.limits.write_timeout or 0.0))

    def _idle_too_long(self, endpoint: Endpoint) -> None:
        self.counters["idle"] += 1
        endpoint.fail(_errors.idle(self.limits.idle_timeout or 0.0))

    async def _cut(self) -> None:
        self._is_cut = True
        self.counters["cut"] += len(self._endpoints)
        self._end_handshakes()
        for task in self._tasks:
            task.cancel()
        for endpoint in list(self._endpoints):
            endpoint.abort()
        await asyncio.gather(*self._openers, *self._tasks, return_exceptions=True)
        await self._idle.wait()
        for deadlines in (self.frame_deadlines, self.write_deadlines, self.idle_deadlines):
            deadlines.close()


def source_of(family: int, address: Any) -> str:
    """Return whom to count a connection to: an IPv4 address; an IPv6 network of 64 bits, of which a peer may have all."""
    if family == socket.AF_INET6:
        ip = ipaddress.IPv6Address(address[0].partition("%")[0])
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))  # mapped: the listener takes both families
    return str(address[0]) if family == socket.AF_INET else "unix"


def _prepare(listeners: Sequence[socket.socket], limits: Limits) -> None:
    """Set the listeners up, or close them all."""
    try:
        for listener in listeners:
            listener.setblocking(False)
            _set_options(listener, limits)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise


def _set_options(listener: socket.socket, limits: Limits) -> None:
    """Set what every accepted socket is born with (Linux and the BSDs copy a listener's options)."""
    if listener.family == socket.AF_UNIX:
        return
    # asyncio sets it only where it knows that a socket's protocol is TCP, which an accepted one does not tell it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if limits.unsent is not None and TCP_NOTSENT_LOWAT is not None:
        listener.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, limits.unsent)
    if limits.keepalive is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, limits.keepalive)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, limits.keepalive // KEEPALIVE_PROBES))
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


def _reset(connection: socket.socket) -> None:
    """Close at once: whoever has its share already shall not leave sockets in TIME_WAIT as well."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
