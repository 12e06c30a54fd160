"""The sweep of the echo: what it costs a server on a real socket if one read brings so many bytes and no more.

The servers (`chunkservers.py`) are processes of their own on one core, the client in C (`native/client.c`) has the other. It
keeps 4 MiB outstanding, two frames at least, so that there is always more than a read may bring. All sizes of reads take turns
with frames of one size. The figure is what the kernel accounts to the server.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from .chunkdecode import DEFAULT_READ, ns_of
from .echo import client_program
from .entry import LeftOutError
from .machine import STEADY
from .measure import Results, on_core, two_cores
from .processes import Client, Server, client, serving
from .race import Race, Runner, race, runner
from .report import say, size_text
from .workloads import frame, some_payloads

OUTSTANDING: Final = 4 << 20  # bytes
RING_SIZE: Final = 1 << 20  # bytes of frames that are sent over and over: as many as one call may send
LEAST_SIZE: Final = 64 << 10  # bytes of a turn
MOST_READS: Final = 16384  # of a frame: a turn with more would take seconds, and show nothing new
MODULE: Final = "fastframe.bench.chunkservers"


class Way(NamedTuple):
    arguments: tuple[str, ...]
    most: int  # bytes that a read may bring at most
    does: str


WAYS: Final = {
    "callback/asyncio": Way(
        ("callback", "asyncio"),
        DEFAULT_READ,
        "FrameProtocol with the deadlines of aio.serve; its get_buffer lends less; on asyncio",
    ),
    "callback/uvloop": Way(
        ("callback", "uvloop"), DEFAULT_READ, "the same on uvloop, which reads up to 32 times in a turn of the loop"
    ),
    "feed/asyncio": Way(("feed", "asyncio"), sys.maxsize, "BufferedProtocol with memory of its own, Decoder.feed, one write"),
    "blocking": Way(("blocking",), sys.maxsize, "a thread: recv_into memory of its own, Decoder.feed, one sendall; no loop"),
}

Row = dict[str, Any]


class Setup(NamedTuple):
    """What holds for all cells. `program`: the client."""

    program: str
    servers: dict[str, Server]
    repetitions: int
    turn_ns: int


def echo_rows(
    payloads: Sequence[int], reads: Sequence[int], repetitions: int, turn_ns: int, left_out: list[str]
) -> Iterator[Row]:
    """Yield a row for each way, size of payloads and size of reads: nanoseconds of the server's processor a frame."""
    client_core, server_core = two_cores()
    with contextlib.ExitStack() as stack:
        stack.enter_context(on_core(client_core))
        program = client_program()
        setup = Setup(program, start(server_core, left_out, stack), repetitions, turn_ns)
        for payload in payloads:
            say(f"echo, {size_text(payload)}")
            yield from cells(setup, payload, reads)


def start(core: int | None, left_out: list[str], stack: contextlib.ExitStack) -> dict[str, Server]:
    servers = {}
    for name, way in WAYS.items():
        if "uvloop" in name and not importlib.util.find_spec("uvloop"):
            left_out.append(f"{name}: uvloop is not installed")
            continue
        try:
            servers[name] = stack.enter_context(serving([sys.executable, "-m", MODULE, *way.arguments], STEADY, core))
        except LeftOutError as error:
            left_out.append(f"{name}: {error}")
    return servers


def cells(setup: Setup, payload: int, reads: Sequence[int]) -> Iterator[Row]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastframe-bench-")))
        payloads = some_payloads(payload, max(3, RING_SIZE // payload))
        path = folder / "frames"
        path.write_bytes(frame(payloads))
        window = max(2, OUTSTANDING // payload)
        command = [setup.program, str(len(payloads)), str(window), str(path), str(path)]
        runners: dict[str, Runner] = {}
        for name, server in setup.servers.items():
            for read in fitting(name, payload, reads):
                each = stack.enter_context(told(command, server, read))
                runners[label(name, read)] = runner(server, each, max(2, LEAST_SIZE // payload), setup.turn_ns)
        result = race(runners, setup.repetitions)
    for name in setup.servers:
        own = fitting(name, payload, reads)
        for read in own:
            yield {"payload": payload, "read": read, "contender": name, **figures_of(result, name, read, own)}


def fitting(name: str, payload: int, reads: Sequence[int]) -> list[int]:
    return [read for read in reads if read <= WAYS[name].most and payload <= MOST_READS * read]


def label(name: str, read: int) -> str:
    return f"{name} {read}"


@contextlib.contextmanager
def told(command: list[str], server: Server, read: int) -> Iterator[Client]:
    """Yield a client on a connection whose server has been told how much to read."""
    connection = server.connect()
    connection.sendall(frame([b"%d" % read]))
    with client(command, connection) as each:
        yield each


def figures_of(result: Race, name: str, read: int, reads: Sequence[int]) -> Row:
    def own(results: Results) -> Results:
        return Results({str(size): results.turns[label(name, size)] for size in reads})

    return {**ns_of(own(result.cpu), read, reads), "wall_ns": result.wall.ns(label(name, read))._asdict()}
