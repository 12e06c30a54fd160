"""Datagram sockets: opened, bound or connected; and the files that the Unix ones are."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any, Final

from . import _errors
from ._address import clear_socket, remove_socket, socket_inode

# Linux keeps 208 KiB for a socket that does not ask, which 166 datagrams of 512 bytes fill, since each takes 1,280 with its
# bookkeeping: 5 ms of 30,000/s, and Python's collector may pause for longer. This is an upper limit, not memory that is taken.
RECEIVE_BUFFER: Final = 4 << 20


def bind(
    host: str | None = None,
    port: int | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    receive_buffer: int = RECEIVE_BUFFER,
) -> list[socket.socket]:
    """Return a bound socket for each address of `host`, or for the Unix socket `path`, which are for `serve`.

    `receive_buffer`: bytes that the kernel may hold of what nobody has received yet. It doubles that for its bookkeeping, and
    gives no more than the system's limit (net.core.rmem_max). Raise OSError if an address cannot be bound, ValueError unless
    there is one.
    """
    sockets: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        for family, address in _resolve(host, port, path, socket.AI_PASSIVE):
            sock = undo.enter_context(_open(family, receive_buffer))
            if family == socket.AF_UNIX:
                clear_socket(address)
            sock.bind(address)
            sockets.append(sock)
        undo.pop_all()
    return sockets


def open_connected(
    host: str | None, port: int | None, path: str | os.PathLike[str] | None, receive_buffer: int
) -> socket.socket:
    """Return a socket that is connected to the first address that there is a way to."""
    failure: OSError | None = None
    for family, address in _resolve(host, port, path, 0):
        sock = _open(family, receive_buffer)
        try:
            if family == socket.AF_UNIX:
                sock.bind("")  # Linux makes up a name then, to which the peer can answer
            sock.connect(address)
            return sock
        except OSError as error:
            failure = error
            sock.close()
    assert failure is not None
    raise failure


class SocketFile:
    """The file that a bound Unix socket is; of any other socket, nothing."""

    def __init__(self, sock: socket.socket) -> None:
        address = sock.getsockname()
        self._path = address if isinstance(address, str) else ""
        self._inode = socket_inode(self._path) if self._path else None

    def remove(self) -> None:
        remove_socket(self._path, self._inode)


def _resolve(
    host: str | None, port: int | None, path: str | os.PathLike[str] | None, flags: int
) -> list[tuple[socket.AddressFamily, Any]]:
    if path is not None and host is None and port is None:
        return [(socket.AF_UNIX, os.fspath(path))]
    if path is None and host is not None and port is not None:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_DGRAM, flags=flags)
        return list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    raise _errors.no_address()


def _open(family: socket.AddressFamily, receive_buffer: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    with contextlib.suppress(OSError):  # where too much is an error; Linux gives what it may
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    if family == socket.AF_INET6:  # a name that means both gets a socket for each
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock
