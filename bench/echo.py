"""`fastframe bench echo`: what a server pays to send a frame back, ours beside its peers in Python, C, Go and Rust.

Every server is a process of its own; so is the client, one for all, written in C (`native/client.c`). The figure is what the
server uses of its processor for a message, as the kernel accounts for it. How the servers are made comparable:

- They answer in turns, one after the other, and each is compared with the C server's turn beside it; medians of turns.
- The servers share one core, where all but one are asleep, and the client has another.
- Every byte that comes back is compared with what should. Neighbouring frames differ.
- With a window of 64, the client sends again once 32 were answered: all servers get frames in portions of about that size.
- All run with the same settings of glibc (`STEADY`): large blocks are kept, and copies do not stumble. Else page faults would
  outweigh what is compared, and a long-lived server has reached that state by itself.
- `native/echo.c` answers whole frames. Sending on what has come of a frame was tried, and was no cheaper.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from .bars import echo_verdicts
from .echoes import ECHOES, Echo, chosen, versions
from .echotables import echo_markdown, print_echo
from .entry import LeftOutError
from .measure import STEADY_MEMCPY, machine
from .native import c_program
from .processes import BenchError, Client, Server, client, on_core, serving, two_cores
from .race import TURN_NS, Race, race, runner
from .report import add_file_options, names_of, save, say, size_text
from .workloads import some_payloads

KIB, MIB = 1 << 10, 1 << 20
SIZES: Final = (64, KIB, 16 * KIB, MIB)
QUICK_SIZES: Final = (64, 16 * KIB, MIB)
WINDOWS: Final = (1, 64)
REPETITIONS: Final = 11
QUICK_REPETITIONS, QUICK_TURN_NS = 3, 20_000_000
# Of frames that are sent over and over: few enough to stay in the cache, at least so many, at most so many.
RING_SIZE, RING_LEAST, RING_MOST = 4 * MIB, 3, 251
PATIENCE: Final = 30.0  # seconds, for what comes before the first frame

STEADY: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * MIB),  # the most that glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(512 * MIB),
    **dict([STEADY_MEMCPY.split("=", 1)]),
}

Row = dict[str, Any]


class Setup(NamedTuple):
    """What holds for all cells. `left_out`: why somebody is missing, a line each."""

    program: str  # the client
    servers: dict[str, Server]
    left_out: list[str]
    turn_ns: int
    repetitions: int


class Speech(NamedTuple):
    """What a client says: frames of one size, `window` of them outstanding. `folder` holds the frames, one copy for all."""

    program: str
    folder: str
    size: int
    window: int


def main(argv: list[str], *, turn_ns: int | None = None) -> int:
    """Run the command and return its exit status; turns can be short for tests."""
    args = parse(argv)
    turn_ns = turn_ns or (QUICK_TURN_NS if args.quick else TURN_NS)
    repetitions = args.repetitions or (QUICK_REPETITIONS if args.quick else REPETITIONS)
    environment = STEADY if args.malloc == "steady" else {}
    client_core, server_core = two_cores()
    report = new_report(environment, pinned=server_core is not None)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(on_core(client_core))
            setup = Setup(client_program(), {}, report["left_out"], turn_ns, repetitions)
            start(setup, args.only, environment, server_core, stack)
            report["versions"] = versions(list(setup.servers))
            report["contenders"] = {name: ECHOES[name].kind for name in setup.servers}
            for size, window in itertools.product(args.sizes, args.windows):
                say(f"{size_text(size)}, window {window}")
                report["echo"] += cell_rows(setup, size, window)
    except BenchError as error:
        say(f"fastframe bench echo: {error}")
        return 1
    report["bars"] = echo_verdicts(report)
    print_echo(report)
    return save(args, report, echo_markdown)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fastframe bench echo",
        description="Measure what an echo of a frame costs a server: ours each way on each loop, beside asyncio's streams,"
        " Twisted, socketserver, picows, C, Go and tokio.",
        epilog="example: fastframe bench echo --only c,callback --sizes 64,16KiB --json echo.json",
    )
    parser.add_argument("--quick", action="store_true", help="three sizes and short turns: half a minute, once all is compiled")
    parser.add_argument("--only", type=names_of(chosen), default=[], metavar="NAME,...", help=f"some of: {', '.join(ECHOES)}")
    parser.add_argument("--sizes", type=numbers, metavar="SIZE,...", help="of payloads (default: 64,1KiB,16KiB,1MiB)")
    parser.add_argument("--windows", type=numbers, default=WINDOWS, metavar="N,...", help="frames outstanding (default: 1,64)")
    parser.add_argument("--repetitions", type=whole_number, metavar="N", help=f"turns of each (default: {REPETITIONS})")
    parser.add_argument(
        "--malloc",
        choices=("steady", "plain"),
        default="steady",
        help="whether glibc keeps large blocks, or gives them back as it does when nobody tells it (default: %(default)s)",
    )
    add_file_options(parser)
    args = parser.parse_args(argv)
    args.sizes = args.sizes or (QUICK_SIZES if args.quick else SIZES)
    return args


def numbers(text: str) -> list[int]:
    return [whole_number(part) for part in text.split(",")]


def whole_number(text: str) -> int:
    """Parse 64, 16KiB or 1MiB."""
    number, scale = text, 1
    for unit, factor in (("KiB", KIB), ("MiB", MIB)):
        if text.endswith(unit):
            number, scale = text.removesuffix(unit), factor
    if not (number.isascii() and number.isdecimal()) or not 0 < int(number) * scale <= 16 * MIB:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 16MiB")
    return int(number) * scale


def client_program() -> str:
    if sys.platform != "linux":
        raise BenchError("only on Linux is a server's processor time asked for here")
    try:
        return str(c_program("client"))
    except LeftOutError as error:
        raise BenchError(f"the client: {error}") from None


def start(setup: Setup, only: list[str], environment: Mapping[str, str], core: int | None, stack: contextlib.ExitStack) -> None:
    """Start all servers that can be started."""
    for name, echo in chosen(only).items():
        say(f"starting {name}")
        try:
            setup.servers[name] = stack.enter_context(serving(echo.command(), environment, core))
        except LeftOutError as error:
            setup.left_out.append(f"{name}: {error}")
    if not setup.servers:
        raise BenchError("; ".join(setup.left_out))


def new_report(environment: Mapping[str, str], *, pinned: bool) -> Row:
    """Return a report without contenders and results."""
    return {
        "benchmark": "echo",
        "machine": machine(),
        "settings": {
            "cores_used": "one for the servers, one for the client" if pinned else "not pinned: there is one",
            "environment": " ".join(f"{key}={value}" for key, value in environment.items()),
        },
        "left_out": [],
        "echo": [],
    }


def cell_rows(setup: Setup, size: int, window: int) -> list[Row]:
    """Let the servers race with payloads of one size and a window; return a row for each.

    Who gives wrong answers is left out of the cell; raise `BenchError` if that is one of ours.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastframe-bench-"))
        speech = Speech(setup.program, folder, size, window)
        runners = {}
        for name, server in setup.servers.items():
            try:
                each = stack.enter_context(client_of(ECHOES[name], server, speech))
                runners[name] = runner(server, each, window, setup.turn_ns)
            except (BenchError, OSError) as error:
                reason = f"{name}, {size_text(size)}, window {window}: {error}"
                if ECHOES[name].kind == "ours":
                    raise BenchError(reason) from None
                setup.left_out.append(reason)
        result = race(runners, setup.repetitions)
    cell = {"payload": size, "window": window}
    return [{**cell, "contender": name, "frames": runners[name].frames, **figures(result, name, window)} for name in runners]


@contextlib.contextmanager
def client_of(echo: Echo, server: Server, speech: Speech) -> Iterator[Client]:
    """Yield a client of `server`."""
    payloads = some_payloads(speech.size, max(RING_LEAST, min(RING_MOST, RING_SIZE // speech.size)))
    files = []
    for wire in (echo.requests, echo.answers):
        path = Path(speech.folder, wire.__name__)
        if not path.exists():
            path.write_bytes(wire(payloads))
        files.append(str(path))
    connection = server.connect()
    connection.settimeout(PATIENCE)
    echo.greet(connection)
    connection.settimeout(None)
    with client([speech.program, str(len(payloads)), str(speech.window), *files], connection) as each:
        yield each


def figures(result: Race, name: str, window: int) -> Row:
    """Return what a row has of `name`: spreads of nanoseconds a frame, and of how many times the others' processor time."""
    everybody = list(result.cpu.turns)
    bases = everybody if ECHOES[name].kind == "ours" else everybody[:1]
    latency = {"median": result.median.ns(name)._asdict(), "slow": result.slow.ns(name)._asdict()} if window == 1 else None
    return {
        "cpu_ns": result.cpu.ns(name)._asdict(),
        "wall_ns": result.wall.ns(name)._asdict(),
        "latency_ns": latency,
        "ratio": {base: result.cpu.ratio(name, base)._asdict() for base in bases},
    }
