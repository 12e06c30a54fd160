"""A blocking socket at a server: the bytes of a framed server's messages, what comes back, and how a connection ends."""

from __future__ import annotations

import contextlib
import json
import socket
import struct

from sessions import NONCE

from fastframe.servers.messages import Kind


def message(kind: int, body: bytes = b"", **fields: object) -> bytes:
    """Return the frame of a message, whose body is `fields` as JSON, or else bytes."""
    payload = bytes([kind]) + (json.dumps(fields).encode() if fields or not body else body)
    return struct.pack(">I", len(payload)) + payload


HELLO = message(Kind.HELLO, version=1, nonce=NONCE)


def hear(raw: socket.socket) -> tuple[int, bytes]:
    """Return type and body of the next message."""
    (length,) = struct.unpack(">I", _receive(raw, 4))
    payload = _receive(raw, length)
    return payload[0], payload[1:]


def _receive(raw: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        more = raw.recv(count - len(data))
        if not more:
            raise EOFError(data)
        data += more
    return bytes(data)


def read_all(raw: socket.socket) -> bytes:
    """Read up to the end, or to a reset."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := raw.recv(1 << 16):
            data += more
    return data


def reset(raw: socket.socket) -> None:
    """Close in a way that the other side gets an error of."""
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()
