"""Addresses as text, the same in both fronts: `host:port`, `[v6]:port`, `unix:PATH`; and the files that the last ones are."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from typing import Any


def address_text(address: Any) -> str:
    """Return the text of a socket's address, as `getsockname` or a transport's `peername` gives it."""
    if isinstance(address, str | bytes) or address is None:  # of a Unix socket; most clients' have no name
        return f"unix:{os.fsencode(address or '').decode(errors='backslashreplace')}"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def clear_socket(path: str) -> None:
    """Remove the socket that a server left at `path` without ending in order; raise OSError if one still listens there.

    Anything that is not a socket is left for bind to complain of.
    """
    if path.startswith("\0"):  # an abstract one is no file, and goes with its last socket
        return
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            if probe.connect_ex(path) == errno.ECONNREFUSED:
                os.unlink(path)
            else:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)


def remove_socket(path: str, inode: int | None) -> None:
    """Remove the socket at `path` if it is still the one that was bound, and if that is allowed: it harms nobody."""
    if inode is not None and socket_inode(path) == inode:
        with contextlib.suppress(OSError):
            os.unlink(path)


def socket_inode(path: str) -> int | None:
    """Return what tells the socket at `path` from a later one of that name; None if there is no file."""
    try:
        return None if path.startswith("\0") else os.stat(path).st_ino
    except FileNotFoundError:
        return None
