"""Listening sockets, before anybody accepts from them: bound by name, told as text, and removed if they are files."""

from __future__ import annotations

import os
import socket
from typing import Any, Final

from . import _errors
from ._address import clear_socket

# Connections that the kernel holds until they are accepted. It cuts the number to its own (net.core.somaxconn, 4096 on Linux),
# and a burst of clients beyond it waits a second for the next attempt of their SYN.
BACKLOG: Final = 4096


def bind(
    host: str | None = None, port: int | None = None, *, path: str | os.PathLike[str] | None = None, backlog: int = BACKLOG
) -> list[socket.socket]:
    """Listen on every address of `host` and `port`, or on the Unix socket `path`, and return the sockets.

    For a program that hands them on: to `serve(sockets=...)`, to worker processes. Port 0 picks a free port for each. A socket
    file that nobody listens on any more is replaced.

    Raise OSError if one cannot be bound, ValueError unless there is one address.
    """
    if path is not None and host is None and port is None:
        return [_bind_path(os.fspath(path), backlog)]
    if path is None and host is not None and port is not None:
        return _bind_all(host, port, backlog)
    raise _errors.no_address()


def _bind_path(path: str, backlog: int) -> socket.socket:
    clear_socket(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def _bind_all(host: str, port: int, backlog: int) -> list[socket.socket]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            listeners.append(_bind_one(family, address, backlog))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _bind_one(family: int, address: Any, backlog: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two servers have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # the IPv4 address of the same name has a socket of its own
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener
