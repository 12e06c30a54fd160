"""What connections cost a server while nobody speaks on them: ours on each loop, and its peers.

All take turns, in some rounds. In a round there are two new servers: one with N connections that are idle, and one without any.
Of the first, the memory (Pss: what it shares with others counts in part) is taken before the connections come and after, when
each has carried one frame there and back, so that nothing is still to be made for the first frame. What the first connection
makes for all is none of the others' doing: one has come, spoken and gone before (Twisted's take 2.0 KiB each where none has,
1.2 where one has), and some that are not counted have come and stay, for they take the room that the interpreter has lying
about (without them, 1,000 callbacks took 2.4 KiB each at one time and 2.9 at another). Then both servers echo frames of 64 B on
one more connection, one at a time, in turns: does it take longer with the others there?

This process is the client. Its N sockets have many source addresses, for the ports of one would run out, and a server may allow
only so many connections from one. glibc runs as it comes: how it keeps memory is part of what is asked.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import resource
import socket
import ssl
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from .echo import Speech, client_of, client_program
from .echoes import ECHOES, Echo
from .entry import BenchError, LeftOutError
from .measure import on_core, spread, take_turns, two_cores
from .processes import Server, Turn, serving
from .race import Race, Runs, joined, race, runner
from .report import say
from .workloads import some_payloads

PER_SOURCE: Final = 100  # connections from one address
FIRST_SOURCE: Final = 0x7F000002  # 127.0.0.2
FIRST_FRAMES: Final = 100  # of a connection that comes and goes first
FILLERS: Final = 250  # connections that are not counted
OWN_FILES: Final = FILLERS + 100  # of this process, and of the server, besides the connections
PAYLOAD: Final = 64
DIFFERENT: Final = 251  # of them; neighbours differ
LEAST_FRAMES: Final = 2  # of a turn
TOGETHER: Final = 50  # connections that wait to be served: half of what asyncio's listener holds
WITH_TLS: Final = ("callback", "batch", "stream", "readexactly")
PATIENCE: Final = 30.0  # seconds for a connection and its first frame

Row = dict[str, Any]
Exchange = tuple[bytes, bytes]  # what is sent, and the answer


class Tls(NamedTuple):
    certificate: str  # the server's: a file with key and chain
    context: ssl.SSLContext  # the client's


class Effort(NamedTuple):
    """How long it is measured: in so many rounds, of so many turns of an echo each."""

    rounds: int
    turns: int
    turn_ns: int


class Setup(NamedTuple):
    """What holds for all servers."""

    program: str  # the client
    connections: int
    tls: Tls | None
    core: int | None
    effort: Effort


class Round(NamedTuple):
    """The memory of a server without its connections and with them, in bytes; and the echo on both servers."""

    before: int
    after: int
    race: Race


def rows(names: Iterable[str], count: int, effort: Effort, left_out: list[str], *, tls: bool) -> list[Row]:
    """Return what `count` idle connections cost each of these servers, a row for each."""

    def forgive(name: str, error: BenchError) -> None:
        if ECHOES[name].kind == "ours" and not isinstance(error, LeftOutError):
            raise error
        left_out.append(f"{name}: {error}")

    client_core, server_core = two_cores()
    allow_files(count + OWN_FILES, "--count")
    with on_core(client_core), certificate(wanted=tls) as keys:
        setup = Setup(client_program(), count, keys, server_core, effort)
        players = {}
        for name in names:
            if tls and not has_tls(name):
                left_out.append(f"{name}: it has no TLS here; {', '.join(WITH_TLS)} have")
            else:
                players[name] = functools.partial(played, name, setup)
        rounds = take_turns(players, effort.rounds, forgive)
    return [{"contender": name, **row(own, count)} for name, own in rounds.items()]


def played(name: str, setup: Setup) -> Round:
    say(f"{name}: {setup.connections:,} connections")
    return one_round(ECHOES[name], setup)


def has_tls(name: str) -> bool:
    return name.split("/", maxsplit=1)[0] in WITH_TLS


def allow_files(count: int, option: str) -> None:
    """Let this process, and the servers that it starts, open so many files; `option` is what says how many they are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and count > hard:
        raise BenchError(
            f"no process may open {count:,} files here, {hard:,} at most (ulimit -n): a smaller {option} needs less"
        )
    if soft != resource.RLIM_INFINITY and count > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


@contextlib.contextmanager
def certificate(*, wanted: bool) -> Iterator[Tls | None]:
    if not wanted:
        yield None
        return
    try:
        trustme = importlib.import_module("trustme")
    except ModuleNotFoundError:
        raise BenchError("trustme, which makes the certificate, is not installed") from None
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with tempfile.TemporaryDirectory(prefix="fastframe-bench-") as folder:
        path = Path(folder, "certificate.pem")
        path.write_bytes(authority.issue_cert("localhost").private_key_and_cert_chain_pem.bytes())
        yield Tls(str(path), context)


def one_round(echo: Echo, setup: Setup) -> Round:
    """Measure what idle connections cost a new server, beside one without any."""
    command = echo.command() + ([setup.tls.certificate] if setup.tls else [])
    with (
        serving(command, {}, setup.core) as quiet,
        serving(command, {}, setup.core) as busy,
        speaker(echo, quiet, setup) as quiet_client,
    ):
        with speaker(echo, busy, setup) as first:
            first.run(FIRST_FRAMES)
        with idle(range(FILLERS), busy, echo, setup.tls):
            before = busy.memory()
            counted = range(FILLERS, FILLERS + setup.connections)
            with idle(counted, busy, echo, setup.tls), speaker(echo, busy, setup) as busy_client:
                return Round(before, busy.memory(), echo_race(quiet, quiet_client, busy, busy_client, setup.effort))


def echo_race(quiet: Server, quiet_client: Runs, busy: Server, busy_client: Runs, effort: Effort) -> Race:
    runners = {
        "without": runner(quiet, quiet_client, LEAST_FRAMES, effort.turn_ns),
        "with": runner(busy, busy_client, LEAST_FRAMES, effort.turn_ns),
    }
    return race(runners, effort.turns)


def row(rounds: Sequence[Round], count: int) -> Row:
    """Return the spread of the bytes that a connection takes, and those of nanoseconds (`figures`)."""
    memory = {"before": [each.before for each in rounds], "after": [each.after for each in rounds]}
    size = spread([(each.after - each.before) / count for each in rounds])
    return {"count": count, "memory": memory, "bytes": size._asdict(), **figures(joined([each.race for each in rounds]))}


def figures(result: Race) -> Row:
    """Return the spreads of the median and the 99th percentile of a turn, and of what an echo costs the processor."""
    found: Row = {}
    for kind, results in (("median", result.median), ("slow", result.slow), ("cpu", result.cpu)):
        found[kind] = {name: results.ns(name)._asdict() for name in ("without", "with")}
        found[kind]["ratio"] = results.ratio("with", "without")._asdict()
    return found


@contextlib.contextmanager
def speaker(echo: Echo, server: Server, setup: Setup) -> Iterator[Runs]:
    """Yield a client on a connection of its own."""
    if setup.tls is None:
        with (
            tempfile.TemporaryDirectory(prefix="fastframe-bench-") as folder,
            client_of(echo, server, Speech(setup.program, folder, PAYLOAD, 1)) as client,
        ):
            yield client
        return
    with connect(server, 0, setup.tls) as connection:
        yield Speaker(connection, exchanges(echo, DIFFERENT))


class Speaker:
    """The client in Python, for a connection that `native/client.c` cannot speak on: TLS. One frame at a time."""

    def __init__(self, connection: socket.socket, said: list[Exchange]) -> None:
        self.connection = connection
        self.exchanges = said

    def run(self, count: int) -> Turn:
        """Send `count` frames, each when the last one has been answered; raise `BenchError` if one is not what it should be."""
        latencies = []
        for number in range(count):
            request, answer = self.exchanges[number % len(self.exchanges)]
            began = time.perf_counter_ns()
            self.connection.sendall(request)
            hear(self.connection, answer)
            latencies.append(time.perf_counter_ns() - began)
        latencies.sort()
        return Turn(sum(latencies), latencies[count // 2], latencies[count * 99 // 100])


def exchanges(echo: Echo, different: int) -> list[Exchange]:
    return [(echo.requests([payload]), echo.answers([payload])) for payload in some_payloads(PAYLOAD, different)]


def hear(connection: socket.socket, answer: bytes) -> None:
    """Receive so many bytes; raise `BenchError` if they are not the answer."""
    received = connection.recv(len(answer))
    while 0 < len(received) < len(answer) and (more := connection.recv(len(answer) - len(received))):
        received += more
    if received != answer:
        raise BenchError("an answer is not what was sent")


@contextlib.contextmanager
def idle(numbers: range, server: Server, echo: Echo, tls: Tls | None) -> Iterator[None]:
    """Open the connections of these numbers, which stay, and have each carry one frame.

    When it is back, the server has accepted all before it.
    """
    with contextlib.ExitStack() as stack:
        for first in range(0, len(numbers), TOGETHER):
            open_some(numbers[first : first + TOGETHER], server, echo, tls, stack)
        yield


def open_some(numbers: range, server: Server, echo: Echo, tls: Tls | None, stack: contextlib.ExitStack) -> None:
    """Open connections, and then await each one's frame: one by one costs the server three times as much."""
    ((request, answer),) = exchanges(echo, 1)
    opened = []
    for number in numbers:
        with served(number):
            connection = stack.enter_context(connect(server, number, tls))
            if tls is None:
                echo.greet(connection)
            connection.sendall(request)
            opened.append(connection)
    for number, connection in zip(numbers, opened, strict=True):
        with served(number):
            hear(connection, answer)


@contextlib.contextmanager
def served(number: int) -> Iterator[None]:
    try:
        yield
    except (OSError, BenchError) as error:
        raise BenchError(f"connection {number + 1:,} is not served: {error}") from None


def connect(server: Server, number: int, tls: Tls | None) -> socket.socket:
    """Return a connection, `PER_SOURCE` of successive numbers from one address."""
    source = socket.inet_ntoa((FIRST_SOURCE + number // PER_SOURCE).to_bytes(4, "big"))
    connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE, (source, 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.context.wrap_socket(connection, server_hostname="localhost") if tls else connection
