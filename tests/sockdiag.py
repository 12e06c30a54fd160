"""The memory that the kernel holds for a server's TCP connections, as `ss -tm` tells it, without the program: sock_diag(7)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

SOCK_DIAG_BY_FAMILY: Final = 20
NLM_F_REQUEST_DUMP: Final = 0x301
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
INET_DIAG_SKMEMINFO: Final = 7
HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr
MESSAGE_SIZE: Final = 72  # inet_diag_msg


class SocketMemory(NamedTuple):
    """Bytes, with what the kernel needs for itself."""

    received: int  # and not read
    sent: int  # and not acknowledged, or not sent yet


def of_server(port: int) -> dict[int, SocketMemory]:
    """Return the memory of each connection of the IPv4 server on `port`, by the port of its peer."""
    request = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 1 << (INET_DIAG_SKMEMINFO - 1), 1 << 1)  # established
    request += struct.pack("!HH", port, 0) + bytes(44)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as netlink:  # NETLINK_SOCK_DIAG
        netlink.settimeout(10)
        netlink.send(HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 0, 0) + request)
        return {_peer(message): _memory(message) for message in _messages(netlink)}


def _messages(netlink: socket.socket) -> Iterator[bytes]:
    while True:
        data = netlink.recv(1 << 16)
        while data:
            length, kind, *_ = HEADER.unpack_from(data)
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", data, HEADER.size)[0], "sock_diag")
            yield data[HEADER.size : length]
            data = data[(length + 3) & ~3 :]


def _peer(message: bytes) -> int:
    return int.from_bytes(message[6:8])


def _memory(message: bytes) -> SocketMemory:
    attributes = message[MESSAGE_SIZE:]
    while attributes:
        length, kind = struct.unpack_from("=HH", attributes)
        if kind == INET_DIAG_SKMEMINFO:
            received, _, _, _, _, sent, _, backlog = struct.unpack_from("=8I", attributes, 4)
            return SocketMemory(received + backlog, sent)
        attributes = attributes[(length + 3) & ~3 :]
    raise ValueError(message)
