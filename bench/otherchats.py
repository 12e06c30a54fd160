"""Who competes in the chat benchmark; and the rooms of others: `python -m fastframe.bench.otherchats WAY LOOP` runs one.

    streams       asyncio's streams, as one writes it first: `writer.write` for each who is there, and no `drain`
    websockets    its `broadcast()`, as its documentation has it, without compression, which that does for each anew, and pings

None of them numbers what is said, keeps it for who comes later, or limits what waits for one who does not take it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

from . import chats
from .chats import GREETING, Wire
from .entry import choose, installed
from .machine import package_versions
from .native import c_program
from .serve import HOST, run_on, say_where
from .workloads import frame

# "base": what they are compared with. "ours": this project's server. "python": its peers.
Kind = Literal["base", "ours", "python"]
RATE: Final = 100_000  # messages a second that our server lets a member send: the room is what is measured
MEMBERS: Final = 20_000


class Contender(NamedTuple):
    """A contender; `does` says in a line what it does.

    `command` makes the server's command line, with the file of its certificate behind it, or raises `LeftOutError`. `wire`
    makes of the length of a text what its members speak.
    """

    kind: Kind
    command: Callable[[], list[str]]
    wire: Callable[[int], Wire]
    does: str
    tls: bool = False


def ours(loop: str, *options: str) -> Callable[[], list[str]]:
    command = [sys.executable, "-m", "fastframe", "serve", "chat", "--port", "0", "--rate", str(RATE), "--loop", loop]
    command += ["--max-connections", str(MEMBERS), "--log-level", "error", *options]
    return lambda: installed(loop, command)


def peer(way: str, loop: str) -> Callable[[], list[str]]:
    command = [sys.executable, "-m", "fastframe.bench.otherchats", way, loop]
    return lambda: installed(loop, installed(way, command) if way in PACKAGES else command)


PACKAGES: Final = ("uvloop", "websockets")
STREAMS: Final = "{}'s streams: writer.write for each who is there, no drain; neither numbers, keeps nor limits anything"
WEBSOCKETS: Final = (
    "broadcast() of websockets.asyncio on {}, binary, compression=None, ping_interval=None; as little as streams"
)
OURS: Final = (
    "`fastframe serve chat --loop {}`: decodes, numbers and keeps each text, joins what a large room says, cuts slow members"
)

# The first is the one that all are compared with.
CONTENDERS: Final[dict[str, Contender]] = {
    "c": Contender(
        "base",
        lambda: [str(c_program("fanout"))],
        chats.bare,
        "in C, epoll: one send for each member, nothing is looked at, decoded or kept",
    ),
    "fastframe/asyncio": Contender("ours", ours("asyncio"), chats.ours, OURS.format("asyncio")),
    "fastframe/uvloop": Contender("ours", ours("uvloop"), chats.ours, OURS.format("uvloop")),
    "fastframe/tls": Contender(
        "ours", ours("asyncio", "--tls-cert"), chats.ours, "what fastframe/asyncio does, over TLS", tls=True
    ),
    "websockets/asyncio": Contender("python", peer("websockets", "asyncio"), chats.websocket, WEBSOCKETS.format("asyncio")),
    "websockets/uvloop": Contender("python", peer("websockets", "uvloop"), chats.websocket, WEBSOCKETS.format("uvloop")),
    "streams/asyncio": Contender("python", peer("streams", "asyncio"), chats.bare, STREAMS.format("asyncio")),
    "streams/uvloop": Contender("python", peer("streams", "uvloop"), chats.bare, STREAMS.format("uvloop")),
}


def chosen(parts: list[str]) -> dict[str, Contender]:
    """Return whom `parts` name and the one to compare with, all without any; raise ValueError for a part that names nobody."""
    return choose(CONTENDERS, parts)


def versions(names: list[str]) -> dict[str, str]:
    """Return the versions of what `names` run on."""
    return package_versions(package for package in PACKAGES if any(package in name for name in names))


async def serve_streams() -> None:
    """Send each frame on with `writer.write` to everybody, as it came, and wait for nobody to take it."""
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
    """Send each message on with `broadcast()` of websockets, which frames it for each anew and waits for nobody to take it."""
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
