"""The blocking front: frames over a socket of the standard library: TCP, Unix sockets, TLS. The twin of `aio`.

A `FrameSocket` is a connection, which `connect` makes, or a `FrameListener` of each that it accepts.

A stream ends in one of three ways, told apart everywhere: cleanly, at a frame boundary (`EndOfStreamError`); truncated
(`IncompleteFrameError`); or by a failure of the connection (OSError) or of the bytes (another `FrameError`).
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Self

from . import _errors
from ._address import address_text, remove_socket, socket_inode
from ._frame_socket import FrameSocket
from ._listening import BACKLOG, bind
from ._parts import DEFAULT_FORMAT, OnOversize

if TYPE_CHECKING:
    import ssl as tls
    from socket import socket as Socket  # noqa: N812  a parameter has the module's name
    from types import TracebackType

    from ._format import FrameFormat

__all__ = ["FrameListener", "FrameSocket", "connect", "listen"]


class FrameListener:
    """What `listen` returns: a listening socket that makes a `FrameSocket` of each connection; iteration accepts for ever."""

    def __init__(
        self,
        socket: Socket,
        format: FrameFormat = DEFAULT_FORMAT,
        on_oversize: OnOversize = "raise",
        ssl: tls.SSLContext | None = None,
    ) -> None:
        self._socket = socket
        self._format = format
        self._on_oversize = on_oversize
        self._ssl = ssl
        address = socket.getsockname()
        self._inode = socket_inode(address) if isinstance(address, str) and address else None

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as text: `host:port`, `[v6]:port` or `unix:PATH`."""
        return [address_text(self._socket.getsockname())] if self._socket.fileno() != -1 else []

    def accept(self, timeout: float | None = None) -> FrameSocket:
        """Wait for a connection, `timeout` seconds at most; raise TimeoutError after that, OSError if there can be none.

        A TLS handshake takes place with the first `recv` or `send`, so that a client that delays it does not delay others.
        """
        self._socket.settimeout(timeout)
        connection, _ = self._socket.accept()
        connection.settimeout(None)
        _set_nodelay(connection)
        if self._ssl is not None:
            connection = self._ssl.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return FrameSocket(connection, self._format, self._on_oversize)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FrameSocket:
        return self.accept()

    def close(self) -> None:
        """Stop listening; the connections go on. Safe to repeat."""
        address = self._socket.getsockname() if self._socket.fileno() != -1 else None
        self._socket.close()
        if self._inode is not None and isinstance(address, str):
            remove_socket(address, self._inode)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def connect(
    host: str | None = None,
    port: int | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    format: FrameFormat = DEFAULT_FORMAT,
    on_oversize: OnOversize = "raise",
    ssl: tls.SSLContext | bool | None = None,
    server_hostname: str | None = None,
    timeout: float | None = None,
) -> FrameSocket:
    """Connect to `host` and `port`, or to the Unix socket `path`; `with` closes the connection.

    `format`: of the frames in both directions; `on_oversize`: as for `Decoder`; `ssl`: a context, or True for the usual one;
    `server_hostname`: the name on the certificate, if it is not `host`; `timeout`: seconds until the connection must stand.

    Raise OSError if there is no connection, TimeoutError after `timeout`, ValueError unless there is one address.
    """
    if path is not None and host is None and port is None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    elif path is None and host is not None and port is not None:
        connection = socket.create_connection((host, port), timeout)
    else:
        raise _errors.no_address()
    try:
        connection.settimeout(timeout)
        if path is not None:
            connection.connect(os.fspath(path))
        _set_nodelay(connection)
        if ssl is True:
            from ssl import create_default_context  # noqa: PLC0415  17 ms of import that most programs do not need

            ssl = create_default_context()
        if ssl:
            connection = ssl.wrap_socket(connection, server_hostname=server_hostname or host)
        connection.settimeout(None)
        return FrameSocket(connection, format, on_oversize)
    except BaseException:
        connection.close()
        raise


def listen(
    host: str | None = None,
    port: int | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    format: FrameFormat = DEFAULT_FORMAT,
    on_oversize: OnOversize = "raise",
    ssl: tls.SSLContext | None = None,
    backlog: int = BACKLOG,
) -> FrameListener:
    """Listen on `host` and `port` (0 picks a free one), or on the Unix socket `path`; `with` closes the listener.

    A name with several addresses binds the first. Raise OSError if the address cannot be bound, ValueError unless there is one.
    """
    listener, *others = bind(host, port, path=path, backlog=backlog)
    for other in others:
        other.close()
    return FrameListener(listener, format, on_oversize, ssl)


def _set_nodelay(connection: socket.socket) -> None:
    """Have frames leave at once, as asyncio does: waiting for more is the sender's choice, who has `send_many`."""
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
