"""Who competes in the chat benchmark; and the rooms of others: `python -m fastframe.bench.otherchats WAY LOOP` runs one.

    streams       asyncio's streams, as one writes it first: `writer.write` for each who is there, and no `drain`
    websockets    its `broadcast()`, as its documentation has it, without compression, which that does for each anew, and pings

None of them numbers what is said, keeps it for who comes later, or limits what waits for one who does not take it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

from . import chats
from .chats import GREETING, Wire
from .entry import LeftOutError, choose
from .native import c_program
from .serve import HOST, run_on, say_where
from .workloads import frame

# "limit": what they are compared with. "ours": this project's server. "python": its peers.
Kind = Literal["limit", "ours", "python"]
RATE: Final = 100_000  # messages a second that our server lets a member send: the room is what is measured
MEMBERS: Final = 20_000


class Contender(NamedTuple):
    """`command` makes the server's command line, with the file of its certificate behind it, or raises `LeftOutError`."""

    kind: Kind
    command: Callable[[], list[str]]
    wire: Callable[[int], Wire]
    settings: str
    tls: bool = False


def ours(loop: str, *options: str) -> Callable[[], list[str]]:
    command = [sys.executable, "-m", "fastframe", "serve", "chat", "--port", "0", "--rate", str(RATE), "--loop", loop]
    command += ["--max-connections", str(MEMBERS), "--log-level", "error", *options]
    return lambda: installed(loop, command)


def peer(way: str, loop: str) -> Callable[[], list[str]]:
    command = [sys.executable, "-m", "fastframe.bench.otherchats", way, loop]
    return lambda: installed(way, installed(loop, command))


def installed(name: str, command: list[str]) -> list[str]:
    if name in PACKAGES and importlib.util.find_spec(name) is None:
        raise LeftOutError(f"{name} is not installed; the extra `bench` brings it")
    return command


PACKAGES: Final = ("uvloop", "websockets")
STREAMS: Final = "asyncio's streams, writer.write for each, no drain"
WEBSOCKETS: Final = "broadcast() of websockets.asyncio, binary, compression=None, ping_interval=None"

# The first is the one that all are compared with.
CONTENDERS: Final[dict[str, Contender]] = {
    "c": Contender(
        "limit", lambda: [str(c_program("fanout"))], chats.bare, "in C: one send for each, and nothing is looked at"
    ),
    "fastframe/asyncio": Contender("ours", ours("asyncio"), chats.ours, "fastframe serve chat --loop asyncio"),
    "fastframe/uvloop": Contender("ours", ours("uvloop"), chats.ours, "the same with --loop uvloop"),
    "fastframe/tls": Contender("ours", ours("asyncio", "--tls-cert"), chats.ours, "the first of them over TLS", tls=True),
    "websockets/asyncio": Contender("python", peer("websockets", "asyncio"), chats.websocket, WEBSOCKETS),
    "websockets/uvloop": Contender("python", peer("websockets", "uvloop"), chats.websocket, "the same on uvloop"),
    "streams/asyncio": Contender("python", peer("streams", "asyncio"), chats.bare, STREAMS),
    "streams/uvloop": Contender("python", peer("streams", "uvloop"), chats.bare, "the same on uvloop"),
}


def chosen(parts: list[str]) -> dict[str, Contender]:
    """Return whom `parts` name and the one to compare with, all without any; raise ValueError for a part that names nobody."""
    return choose(CONTENDERS, parts)


def versions(names: list[str]) -> dict[str, str]:
    """Return the versions of what `names` run on."""
    found = {}
    for package in PACKAGES:
        if any(package in name for name in names):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[package] = importlib.metadata.version(package)
    return found


async def serve_streams() -> None:
    members: set[asyncio.StreamWriter] = set()

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        members.add(writer)
        writer.write(frame([GREETING]))
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                header = await reader.readexactly(4)
                payload = await reader.readexactly(int.from_bytes(header))
                for member in members:
                    member.write(header + payload)
        members.discard(writer)
        writer.close()

    server = await asyncio.start_server(attend, HOST, 0, backlog=4096)
    say_where(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def serve_websockets() -> None:
    server, connection, exceptions = (
        importlib.import_module(f"websockets.{name}") for name in ("asyncio.server", "asyncio.connection", "exceptions")
    )
    members: set[Any] = set()

    async def attend(websocket: Any) -> None:
        members.add(websocket)
        try:
            await websocket.send(GREETING)
            async for message in websocket:
                connection.broadcast(members, message)
        except exceptions.ConnectionClosed:
            pass
        finally:
            members.discard(websocket)

    async with server.serve(attend, HOST, 0, compression=None, ping_interval=None, backlog=4096) as listening:
        say_where(listening.sockets[0].getsockname()[1])
        await asyncio.Event().wait()


WAYS: Final = {"streams": serve_streams, "websockets": serve_websockets}

if __name__ == "__main__":
    run_on(sys.argv[2], WAYS[sys.argv[1]]())
