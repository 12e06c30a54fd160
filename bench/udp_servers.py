"""The echo servers that `fastframe bench udp` compares: ours, what people write with the standard library or uvloop, and C.

The others echo without a look: they neither check a frame nor tell an answer from a request. Each prints `listening on udp
ADDR` and runs until it is killed. `python -m fastframe.bench.udp_servers NAME` is one of them.
"""

from __future__ import annotations

import asyncio
import socket
import socketserver
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

from .entry import choose, installed
from .native import c_program
from .serve import HOST, run_on

# "base": what all are compared with. "ours": this project's server. "compiled", "python": its peers, by what they are made of.
Kind = Literal["base", "ours", "compiled", "python"]
RECEIVE_BUFFER: Final = 4 << 20  # for all alike: that of `fastframe.datagram`


class UdpServer(NamedTuple):
    """A contender; `does` says in a line what it does. `command` makes its command line, or raises `LeftOutError`."""

    kind: Kind
    does: str
    command: Callable[[], list[str]]
    environment: Mapping[str, str] = {}


def ours(loop: str) -> Callable[[], list[str]]:
    command = [sys.executable, "-m", "fastframe", "serve", "echo", "--udp", "--port", "0", "--loop", loop]
    return lambda: installed(loop, command)


def peer(name: str, loop: str = "asyncio") -> Callable[[], list[str]]:
    return lambda: installed(loop, [sys.executable, "-m", "fastframe.bench.udp_servers", name, loop])


COMPILED: Final = {"FASTFRAME_IMPLEMENTATION": "cython"}
PURE: Final = {"FASTFRAME_IMPLEMENTATION": "python"}
OURS: Final = "`fastframe serve echo --udp --loop {}`, {}: bursts of 32, each frame checked, an answer marked as one"
PROTOCOL: Final = "a DatagramProtocol on {}: one sendto for each datagram_received, nothing checked"
SOCKETSERVER: Final = "socketserver.{}: {}, one recvfrom and one sendto for each, nothing checked"

# The first that runs is the one that all are compared with.
SERVERS: Final[dict[str, UdpServer]] = {
    "c": UdpServer(
        "base",
        "in C: recvmmsg and sendmmsg, bursts of 32, nothing checked",
        lambda: [str(c_program("udp_echo"))],
    ),
    "fastframe/asyncio": UdpServer("ours", OURS.format("asyncio", "compiled"), ours("asyncio"), COMPILED),
    "fastframe/uvloop": UdpServer("ours", OURS.format("uvloop", "compiled"), ours("uvloop"), COMPILED),
    "pure/asyncio": UdpServer("ours", OURS.format("asyncio", "pure Python"), ours("asyncio"), PURE),
    "protocol/uvloop": UdpServer("compiled", PROTOCOL.format("uvloop"), peer("protocol", "uvloop")),
    "protocol/asyncio": UdpServer("python", PROTOCOL.format("asyncio"), peer("protocol")),
    "UDPServer": UdpServer("python", SOCKETSERVER.format("UDPServer", "one thread"), peer("UDPServer")),
    "ThreadingUDPServer": UdpServer(
        "python", SOCKETSERVER.format("ThreadingUDPServer", "a thread for each datagram"), peer("ThreadingUDPServer")
    ),
}


def chosen(parts: list[str]) -> dict[str, UdpServer]:
    """Return whom `parts` name and the one to compare with, all without any; raise ValueError for a part that names nobody."""
    return choose(SERVERS, parts)


class Protocol(asyncio.DatagramProtocol):
    """Send each datagram back from within `datagram_received`, as the example in Python's documentation does."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(data, addr)


class Handler(socketserver.BaseRequestHandler):
    """Send each datagram back with the server's socket, as the example in Python's documentation does."""

    def handle(self) -> None:
        data, sock = self.request
        sock.sendto(data, self.client_address)


def announce(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    print("listening on udp {}:{}".format(*sock.getsockname()), flush=True)


async def serve_protocol() -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Protocol, local_addr=(HOST, 0))
    announce(transport.get_extra_info("socket"))
    await asyncio.Event().wait()


def main(name: str, loop: str) -> None:
    if name == "protocol":
        run_on(loop, serve_protocol())
        return
    kind: type[socketserver.UDPServer] = getattr(socketserver, name)
    kind.max_packet_size = 65_536
    with kind((HOST, 0), Handler) as server:
        announce(server.socket)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
