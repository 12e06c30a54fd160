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
from typing import Any, Final, Literal, NamedTuple

from .entry import installed
from .native import c_program, go_program, tokio_program
from .peers import picows_wire
from .workloads import frame

# "native": C, Go, Rust. "ours": this project's server, each way of it. "compiled", "python": its peers, by their own code.
Kind = Literal["native", "ours", "compiled", "python"]
Wire = Callable[[list[bytes]], bytes]

LOOPS: Final = ("asyncio", "uvloop", "aiofastnet")
PACKAGES: Final = frozenset({"aiofastnet", "picows", "twisted", "uvloop"})  # as ways and loops are called
MASK: Final = b"\x5a\xc3\x96\x0f"
UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Echo(NamedTuple):
    """A contender; `does` says in a line what it does.

    `command()` makes the server's command line, or raises `LeftOutError`. `greet` does what comes before the first frame;
    `requests` and `answers` are the bytes that carry payloads there and back.
    """

    kind: Kind
    does: str
    command: Callable[[], list[str]]
    greet: Callable[[socket.socket], None] = lambda _: None
    requests: Wire = frame
    answers: Wire = frame


def python(*arguments: str) -> Callable[[], list[str]]:
    def command() -> list[str]:
        found = [sys.executable, "-m", "fastframe.bench.serve", *arguments]
        for package in PACKAGES.intersection(arguments):
            installed(package, found)
        return found

    return command


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


def on_loops(way: str, kind: Kind, does: str, loops: tuple[str, ...] = LOOPS, **more: Any) -> dict[str, Echo]:
    return {f"{way}/{loop}": Echo(kind, f"{does}, on {loop}", python(way, loop), **more) for loop in loops}


ECHOES: Final[dict[str, Echo]] = {
    "c": Echo("native", "one thread, epoll, no library: one recv and one send a wake-up", lambda: [str(c_program("echo"))]),
    "go": Echo("native", "a goroutine for each connection, buffered both ways", lambda: [str(go_program())]),
    "tokio": Echo(
        "native",
        "tokio-util's LengthDelimitedCodec, a task for each connection; answers that are ready leave together",
        lambda: [str(tokio_program())],
    ),
    **on_loops("callback", "ours", "FrameProtocol: frames_received and send_many"),
    **on_loops("batch", "ours", "FrameProtocol: batch_received and send_batch, no object for a frame"),
    **on_loops("stream", "ours", "FrameStream: a task for each connection, recv and send"),
    "sync": Echo("ours", "fastframe.sync: a thread for each connection, recv and send", python("sync")),
    **on_loops("readexactly", "python", "asyncio's streams: two readexactly a frame, write and drain"),
    "twisted": Echo("python", "Int32StringReceiver: stringReceived and sendString", python("twisted")),
    "socketserver": Echo("python", "ThreadingTCPServer: two exact receptions a frame, sendall", python("socketserver")),
    **on_loops(
        "picows",
        "compiled",
        "WebSocket frames: on_ws_frame and send",
        ("asyncio", "uvloop"),
        greet=upgrade,
        requests=masked_wire,
        answers=picows_wire,
    ),
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
    for package in sorted(parts & PACKAGES):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    for name, command in (("c", ["cc", "--version"]), ("go", ["go", "version"]), ("tokio", ["rustc", "--version"])):
        if name in parts and shutil.which(command[0]):
            found[command[0]] = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()[0]
    return found
