"""The echo servers that `fastframe bench udp` compares: ours, what people write with the standard library or uvloop, and C.

The others echo without a look: they neither check a frame nor tell an answer from a request. Each prints `listening on udp
ADDR` and runs until it is killed. `python -m fastframe.bench.udp_servers NAME` is one of them.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import socket
import socketserver
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from .entry import Kind, LeftOutError

C_SOURCE: Final = Path(__file__).with_name("native") / "udp_echo.c"
RECEIVE_BUFFER: Final = 4 << 20  # for all alike: that of `fastframe.datagram`


class UdpServer(NamedTuple):
    """How a server is started: a command, and what it needs in its environment."""

    kind: Kind
    command: Callable[[Path], list[str]]
    environment: Mapping[str, str] = {}


def ours(*options: str) -> Callable[[Path], list[str]]:
    return lambda _: [sys.executable, "-m", "fastframe", "serve", "echo", "--udp", "--port", "0", *options]


def peer(name: str) -> Callable[[Path], list[str]]:
    return lambda _: [sys.executable, "-m", "fastframe.bench.udp_servers", name]


def compiled_c(folder: Path) -> list[str]:
    """Return the command of the server in C, compiled into `folder`; raise `LeftOutError` if that cannot be."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), "")
    if not sys.platform.startswith("linux") or not compiler:
        raise LeftOutError("C: it takes Linux and a C compiler")
    program = folder / "udp_echo"
    built = subprocess.run([*compiler.split(), "-O2", "-o", program, C_SOURCE], capture_output=True, text=True, check=False)
    if built.returncode != 0:
        raise LeftOutError(f"C: {' '.join(built.stderr.split()[:30])}")
    return [str(program)]


def with_uvloop(command: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
    def checked(folder: Path) -> list[str]:
        if importlib.util.find_spec("uvloop") is None:
            raise LeftOutError("uvloop is not installed")
        return command(folder)

    return checked


SERVERS: Final = {
    "C": UdpServer("limit", compiled_c),
    "compiled": UdpServer("ours", ours(), {"FASTFRAME_IMPLEMENTATION": "cython"}),
    "compiled, uvloop": UdpServer("ours", with_uvloop(ours("--loop", "uvloop")), {"FASTFRAME_IMPLEMENTATION": "cython"}),
    "pure": UdpServer("ours", ours(), {"FASTFRAME_IMPLEMENTATION": "python"}),
    "uvloop": UdpServer("compiled", with_uvloop(peer("uvloop"))),
    "asyncio": UdpServer("python", peer("asyncio")),
    "UDPServer": UdpServer("python", peer("UDPServer")),
    "ThreadingUDPServer": UdpServer("python", peer("ThreadingUDPServer")),
}


class Protocol(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(data, addr)


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, sock = self.request
        sock.sendto(data, self.client_address)


def announce(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    print("listening on udp {}:{}".format(*sock.getsockname()), flush=True)


async def serve_protocol() -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
    announce(transport.get_extra_info("socket"))
    await asyncio.Event().wait()


def main(name: str) -> None:
    if name == "asyncio":
        asyncio.run(serve_protocol())
    elif name == "uvloop":
        import uvloop  # noqa: PLC0415  an extra

        uvloop.run(serve_protocol())
    else:
        kind: type[socketserver.UDPServer] = getattr(socketserver, name)
        kind.max_packet_size = 65_536
        with kind(("127.0.0.1", 0), Handler) as server:
            announce(server.socket)
            server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
