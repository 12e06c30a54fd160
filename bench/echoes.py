"""Who competes in the echo benchmark: what starts a server each, and what is said to it.

All answer u32be frames of at most 16 MiB but picows, which has no frames but WebSocket's: those carry the same payloads, masked
on the way there as the protocol asks of clients, which costs it an unmasking that the others have not. Who is not installed, or
cannot be compiled, is found out when it is started.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from .native import c_program, go_program, tokio_program
from .peers import picows_wire
from .workloads import frame

# "native": C, Go, Rust. "ours": this project's server, each way of it. "python": its peers.
Kind = Literal["native", "ours", "python"]
Wire = Callable[[list[bytes]], bytes]

LOOPS: Final = ("asyncio", "uvloop", "aiofastnet")
MASK: Final = b"\x5a\xc3\x96\x0f"
UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Echo(NamedTuple):
    """A contender.

    `command()` makes the server's command line, or raises `LeftOutError`. `greet` does what comes before the first frame;
    `requests` and `answers` are the bytes that carry payloads there and back.
    """

    kind: Kind
    command: Callable[[], list[str]]
    greet: Callable[[socket.socket], None] = lambda _: None
    requests: Wire = frame
    answers: Wire = frame


def python(*arguments: str) -> Callable[[], list[str]]:
    return lambda: [sys.executable, "-m", "fastframe.bench.serve", *arguments]


def upgrade(connection: socket.socket) -> None:
    """Make a WebSocket of a connection."""
    connection.sendall(UPGRADE)
    answer = b""
    while b"\r\n\r\n" not in answer:
        received = connection.recv(4096)
        if not received:
            break
        answer += received
    if not re.match(rb"HTTP/1\.1 101 .*\r\n\r\n\Z", answer, re.DOTALL):
        raise ConnectionError("the WebSocket was refused")


def masked_wire(payloads: list[bytes]) -> bytes:
    """Return what a client sends: binary frames whose payloads are combined with a mask (RFC 6455, section 5.3)."""
    frames: list[bytes | bytearray] = []
    for payload in payloads:
        header = bytearray(picows_wire([payload])[: -len(payload) or None])
        header[1] |= 0x80
        frames += header, MASK, masked(payload)
    return b"".join(frames)


def masked(payload: bytes) -> bytes:
    mask = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(len(payload))


ECHOES: Final[dict[str, Echo]] = {
    "c": Echo("native", lambda: [str(c_program("echo"))]),
    "go": Echo("native", lambda: [str(go_program())]),
    "tokio": Echo("native", lambda: [str(tokio_program())]),
    **{f"{way}/{loop}": Echo("ours", python(way, loop)) for way in ("callback", "batch", "stream") for loop in LOOPS},
    "sync": Echo("ours", python("sync")),
    **{f"readexactly/{loop}": Echo("python", python("readexactly", loop)) for loop in LOOPS},
    "twisted": Echo("python", python("twisted")),
    "socketserver": Echo("python", python("socketserver")),
    **{
        f"picows/{loop}": Echo("python", python("picows", loop), upgrade, masked_wire, picows_wire)
        for loop in ("asyncio", "uvloop")
    },
}


def chosen(parts: list[str]) -> dict[str, Echo]:
    """Return whom `parts` name, `callback/uvloop` one and `callback` all of that way, or all without any.

    Raise ValueError for a part that names nobody.
    """
    named = {part: {name for name in ECHOES if name == part or name.startswith(part + "/")} for part in parts}
    for part, names in named.items():
        if not names:
            raise ValueError(f"there is no {part!r}; there are {', '.join(ECHOES)}")
    return {name: echo for name, echo in ECHOES.items() if not parts or any(name in names for names in named.values())}


def versions(names: list[str]) -> dict[str, str]:
    """Return the versions of what `names` run on, as far as they can be asked."""
    parts = {part for name in names for part in name.split("/")}
    found = {}
    for package in sorted(parts & {"aiofastnet", "picows", "twisted", "uvloop"}):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    for name, command in (("c", ["cc", "--version"]), ("go", ["go", "version"]), ("tokio", ["rustc", "--version"])):
        if name in parts and shutil.which(command[0]):
            found[command[0]] = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()[0]
    return found
