"""The four cures of sticky messages, in the order people find them, as they are written by hand; and the fifth.

Where the server has to answer before the client may go on, one function does what both do, in that order: one thread has both
ends. The demo prints these functions and runs them.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from socket import socket

from fastframe import FrameFormat
from fastframe.sync import FrameSocket


def ack_between(client: socket, server: socket, message: bytes) -> bytes:
    client.sendall(message)
    received = server.recv(16)
    server.sendall(b"ok")
    client.recv(16)
    return received


def size_first(client: socket, server: socket, message: bytes) -> bytes:
    client.sendall(b"%d" % len(message))
    size = int(server.recv(16))
    server.sendall(b"ok")
    client.recv(16)
    client.sendall(message)
    return recv_exactly(server, size)


def recv_exactly(server: socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        chunk = server.recv(size - len(received))
        if not chunk:
            raise EOFError("the peer left inside a message")
        received += chunk
    return received


def send_struct(client: socket, message: bytes) -> None:
    client.sendall(struct.pack(">I", len(message)) + message)


def recv_struct(server: socket) -> bytes:
    (size,) = struct.unpack(">I", recv_exactly(server, 4))
    return recv_exactly(server, size)


def describe(message: bytes) -> bytes:
    about = {"size": len(message), "crc": f"{zlib.crc32(message):08x}"}
    return json.dumps(about, separators=(",", ":")).encode()


def send_described(client: socket, message: bytes) -> None:
    about = describe(message)
    client.sendall(struct.pack(">I", len(about)) + about + message)


def recv_described(server: socket) -> bytes:
    about = json.loads(recv_struct(server))
    message = recv_exactly(server, about["size"])
    if f"{zlib.crc32(message):08x}" != about["crc"]:
        raise ValueError("what came is not what was sent")
    return message


def framed(sock: socket) -> FrameSocket:
    return FrameSocket(sock, FrameFormat("u32be", max_payload_length=1 << 20))


def send_framed(client: socket, messages: Iterable[bytes]) -> None:
    framed(client).send_many(messages)


def recv_framed(server: socket) -> Iterator[bytes]:
    yield from framed(server)
