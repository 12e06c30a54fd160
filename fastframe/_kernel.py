"""What the kernel knows of a connection and its transport does not tell: what came and was not read, what the peer took.

It answers for the transports of any loop, through TLS too. Where nobody can know, there is nothing.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Any, Final

if sys.platform != "win32":  # now, since there may be no descriptor left to import them with when they are wanted
    import fcntl
    import termios

# struct tcp_info of linux/tcp.h, where a member never moves: tcpi_bytes_acked (RFC 4898, tcpEStatsAppHCThruOctetsAcked).
TCP_INFO: Final[int | None] = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
BYTES_ACKED: Final = struct.Struct("=120xQ")


def unread(transport: asyncio.Transport) -> int:
    """Return how many bytes came that the transport has not read yet."""
    return 0 if sys.platform == "win32" else _ask(transport, termios.FIONREAD)


def untaken(transport: asyncio.Transport) -> int:
    """Return how many bytes were sent that the peer's kernel has not acknowledged. macOS does not tell."""
    return 0 if sys.platform == "win32" else _ask(transport, termios.TIOCOUTQ)


def taken(transport: asyncio.Transport) -> int | None:
    """Return how many bytes the peer's kernel has acknowledged so far; None but for TCP on Linux."""
    connection = transport.get_extra_info("socket")
    if TCP_INFO is None or connection is None or connection.family == socket.AF_UNIX:
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, BYTES_ACKED.size)
        return int(BYTES_ACKED.unpack(info)[0])
    except (OSError, ValueError, struct.error):  # the socket is closed, or the kernel older than Linux 4.1
        return None


def _ask(transport: asyncio.Transport, request: int) -> int:
    connection: Any = transport.get_extra_info("socket")
    try:
        answer = fcntl.ioctl(connection.fileno(), request, bytes(4))
    except (AttributeError, OSError, ValueError):  # no socket; none that can tell; one that is closed
        return 0
    return int(struct.unpack("i", answer)[0])
