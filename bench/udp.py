"""`fastframe bench udp`: what an echo of a datagram costs a server, and how many get lost when they come at a steady pace.

Every server is a process of its own; this one is the client. The servers are up from the start and take turns on one core, and
the client has another. What one took is compared with what the first took in the same turn; medians of turns.

- *Full*: the client keeps 256 requests under way. What counts is the processor time of the server for each that was answered:
  the rate says as much of the client, of the scheduler, and of whoever else uses the machine.
- *Paced*: 30,000 requests a second, whatever is answered; then the answers are counted. Not one should be missing.

A datagram is a request of `fastframe echo --udp`, of the length asked for, header and all. All run with the same settings of
glibc (`STEADY`): asyncio receives each datagram into 256 KiB, which would else be mapped and given back for each.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from fastframe import datagram
from fastframe.servers.echo_udp import HEAD_LENGTH, PING

from .bars import udp_verdicts
from .command import run
from .entry import BenchError, LeftOutError
from .family import Family, Report, new_report
from .machine import STEADY, environment_text, package_versions
from .measure import Results, cores_used, on_core, quiet, spread, take_turns, two_cores
from .options import names_of, whole_number
from .processes import Server, serving
from .report import say, size_text
from .udp_servers import SERVERS, chosen
from .udptables import INTRODUCTION, charts, figures, tables

SIZE: Final = 512  # bytes of a datagram
LEAST: Final = 4 + HEAD_LENGTH
KIND: Final = slice(4, 8)  # PING in a request, and PONG in an answer of ours
WINDOW: Final = 256  # requests under way: a quarter of what the kernel holds for a socket that asks for nothing
TURNS, QUICK_TURNS = 9, 3
TURN_SECONDS, QUICK_TURN_SECONDS = 0.4, 0.2
PACE: Final = 30_000  # requests a second
TICKS: Final = 500  # of the pace, a second
PACED_TURNS, QUICK_PACED_TURNS = 5, 1
PACED_SECONDS: Final = 1.0  # of a turn; a short one would fit into what the kernel holds
PATIENCE: Final = 0.5  # seconds without any answer, after which what is under way counts as lost
QUIET: Final = 0.1  # such seconds after which a paced turn is over
FIRST_PATIENCE: Final = 5.0  # for the first one

Row = dict[str, Any]


class Running(NamedTuple):
    """A contender that runs, and a socket that is connected to it."""

    server: Server
    sock: datagram.DatagramSocket


class Flow(NamedTuple):
    """What went to a server and came back, in how many seconds."""

    sent: int
    answered: int
    seconds: float


class Turn(NamedTuple):
    flow: Flow
    cpu_ns: int  # of the server's processor


class Setup(NamedTuple):
    """What holds for all. `left_out`: why somebody is missing, a line each."""

    request: bytes
    quick: bool
    turns: int
    left_out: list[str]


def main(argv: list[str]) -> int:
    """Run the command and return its exit status."""
    return run(FAMILY, argv)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", type=names_of(chosen), default=[], metavar="NAME,...", help=f"some of: {', '.join(SERVERS)}")
    parser.add_argument(
        "--size",
        type=datagram_size,
        default=SIZE,
        help=f"bytes of a datagram, {LEAST} to {datagram.MAX_DATAGRAM} (default: %(default)s)",
    )
    parser.add_argument("--turns", type=whole_number, metavar="N", help=f"of each (default: {TURNS})")


def datagram_size(text: str) -> int:
    size = whole_number(text)
    if not LEAST <= size <= datagram.MAX_DATAGRAM:
        raise argparse.ArgumentTypeError(f"{text!r} is not from {LEAST} to {datagram.MAX_DATAGRAM}")
    return size


def measured(args: argparse.Namespace) -> Report:
    """Keep the servers busy in turns, and then have each answer at the pace."""
    if sys.platform != "linux":
        raise BenchError("only on Linux is a server's processor time asked for here")
    setup = Setup(some_request(args.size), args.quick, args.turns or (QUICK_TURNS if args.quick else TURNS), [])
    client_core, server_core = two_cores()
    report = new_report("udp", quick=args.quick, settings=settings(setup))
    with on_core(client_core), contextlib.ExitStack() as stack:
        running = start_all(args.only, setup, server_core, stack)
        report["versions"] = package_versions(["uvloop"])
        report["contenders"] = {name: SERVERS[name].kind for name in running}
        report["does"] = {name: SERVERS[name].does for name in running}
        with quiet():
            report["udp"] = rows(running, setup)
    report["left_out"] = setup.left_out
    return report


def settings(setup: Setup) -> Row:
    return {
        "datagram": size_text(len(setup.request)),
        "under_way": WINDOW,
        "pace": PACE,
        "turns": f"{setup.turns} of {QUICK_TURN_SECONDS if setup.quick else TURN_SECONDS:g} s",
        "cores_used": cores_used(),
        "environment": environment_text(STEADY),
    }


def some_request(size: int) -> bytes:
    text = bytes(size - LEAST)
    return datagram.DatagramCodec().encode(PING + b"fastfram" + text)


def start_all(only: list[str], setup: Setup, core: int | None, stack: contextlib.ExitStack) -> dict[str, Running]:
    """Start all servers that can be started; raise `BenchError` if there is none."""
    running = {}
    for name, server in chosen(only).items():
        say(f"starting {name}")
        try:
            process = stack.enter_context(serving(server.command(), {**STEADY, **server.environment}, core))
            sock = stack.enter_context(datagram.connect("127.0.0.1", process.port, format=None))
            check(sock, setup.request)
            running[name] = Running(process, sock)
        except LeftOutError as error:
            setup.left_out.append(f"{name}: {error}")
        except BenchError as error:
            leave_out(name, error, setup.left_out)
    if not running:
        raise BenchError("; ".join(setup.left_out))
    return running


def leave_out(name: str, error: BenchError, left_out: list[str]) -> None:
    """Note why a contender cannot go on; one of ours or the one to compare with is a `BenchError`."""
    if SERVERS[name].kind in ("ours", "base"):
        raise BenchError(f"{name}: {error}") from None
    left_out.append(f"{name}: {error}")


def check(sock: datagram.DatagramSocket, request: bytes) -> None:
    """Raise `BenchError` unless a request comes back, but for the mark that it is an answer."""
    sock.send(request)
    try:
        answer, _ = sock.recv(FIRST_PATIENCE)
    except TimeoutError:
        raise BenchError("it does not answer") from None
    if answer[: KIND.start] != request[: KIND.start] or answer[KIND.stop :] != request[KIND.stop :]:
        raise BenchError("an answer is not what was sent")


def rows(running: dict[str, Running], setup: Setup) -> list[Row]:
    """Return a row for each: processor time and rates while busy, and what got lost at the pace."""
    seconds = QUICK_TURN_SECONDS if setup.quick else TURN_SECONDS
    busy = functools.partial(keep_busy, request=setup.request, seconds=seconds)
    pace = functools.partial(keep_pace, request=setup.request, seconds=PACED_SECONDS)
    say(f"{WINDOW} datagrams of {size_text(len(setup.request))} under way")
    in_turns(running, 1, setup.left_out, busy)  # to warm up
    full = in_turns(running, setup.turns, setup.left_out, busy)
    say(f"{PACE:,} a second")
    paced = in_turns(running, QUICK_PACED_TURNS if setup.quick else PACED_TURNS, setup.left_out, pace)
    cpu = Results({name: [turn.cpu_ns / turn.flow.answered for turn in full[name]] for name in paced})
    base = next(iter(paced))
    return [
        {
            "contender": name,
            "cpu_ns": cpu.ns(name)._asdict(),
            "ratio": {base: cpu.ratio(name, base)._asdict()},
            "rate": spread([turn.flow.answered / turn.flow.seconds for turn in full[name]])._asdict(),
            "lost": sum(turn.flow.sent - turn.flow.answered for turn in full[name]),
            "paced": {
                "sent": sum(turn.flow.sent for turn in turns),
                "answered": sum(turn.flow.answered for turn in turns),
                "percent": spread([100 * turn.flow.answered / turn.flow.sent for turn in turns])._asdict(),
            },
        }
        for name, turns in paced.items()
    ]


def in_turns(
    running: dict[str, Running], turns: int, left_out: list[str], flow: Callable[[datagram.DatagramSocket], Flow]
) -> dict[str, list[Turn]]:
    """Have everybody play so many turns; who fails is left out from then on."""

    def forgive(name: str, error: BenchError) -> None:
        leave_out(name, error, left_out)
        del running[name]

    return take_turns({name: functools.partial(turn, each, flow) for name, each in running.items()}, turns, forgive)


def turn(running: Running, flow: Callable[[datagram.DatagramSocket], Flow]) -> Turn:
    """Have it answer, and return what came and what it cost; raise `BenchError` if nothing came."""
    while answers(running.sock, 0):
        pass  # of the turn before, which has counted them as lost
    try:
        before = running.server.cpu_ns()
        found = flow(running.sock)
        took = running.server.cpu_ns() - before
    except OSError as error:
        raise BenchError(f"it has ended: {error}") from None
    if not found.answered:
        raise BenchError("it does not answer any more")
    return Turn(found, max(1, took))


def keep_busy(sock: datagram.DatagramSocket, request: bytes, seconds: float) -> Flow:
    """Keep WINDOW requests under way for so long, and then wait for the last answers."""
    requests: list[tuple[bytes, None]] = [(request, None)] * WINDOW
    began = time.perf_counter()
    sent = answered = under_way = 0
    while under_way or time.perf_counter() - began < seconds:
        if time.perf_counter() - began < seconds:
            took = sock.send_many(requests[: WINDOW - under_way])
            sent, under_way = sent + took, under_way + took
        came = answers(sock, PATIENCE)
        answered, under_way = answered + came, max(0, under_way - came) if came else 0
    return Flow(sent, answered, time.perf_counter() - began)


def keep_pace(sock: datagram.DatagramSocket, request: bytes, seconds: float) -> Flow:
    """Send PACE requests a second for so long, whatever is answered, and then wait for the last answers."""
    sent = answered = 0
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        sent += sock.send_many([(request, None)] * (int(PACE * passed) - sent))
        answered += answers(sock, 1 / TICKS)
    while came := answers(sock, QUIET):
        answered += came
    return Flow(sent, answered, passed)


def answers(sock: datagram.DatagramSocket, timeout: float) -> int:
    """Return how many answers came, none after `timeout` seconds."""
    try:
        return len(sock.recv_many(timeout))
    except TimeoutError:
        return 0


FAMILY: Final = Family(
    "udp",
    summary="echo of datagrams",
    description="Measure what an echo of a datagram costs `fastframe serve echo --udp`, beside a server in C and what"
    " people write with asyncio, uvloop and socketserver.",
    example="udp --only fastframe/asyncio,protocol/asyncio --json udp.json",
    introduction=INTRODUCTION,
    add_options=add_options,
    measure=measured,
    bars=udp_verdicts,
    tables=tables,
    figures=figures,
    charts=charts,
)
