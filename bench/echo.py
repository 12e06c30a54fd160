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
from typing import Final, NamedTuple

from .bars import cell_text, echo_verdicts
from .charts import Axis, Bar, Bars, Chart, Line, Lines
from .command import run
from .echoes import ECHOES, Echo, chosen, versions
from .echotables import ECHO_INTRODUCTION, echo_tables
from .entry import BenchError, LeftOutError
from .family import Family, Figure, Report, new_report
from .machine import STEADY, environment_text
from .measure import Spread, cores_used, on_core, two_cores
from .native import c_program
from .options import names_of, numbers, whole_number
from .processes import Client, Server, client, serving
from .race import TURN_NS, Race, race, runner, turns_text
from .report import say, size_text
from .workloads import some_payloads

KIB, MIB = 1 << 10, 1 << 20
SIZES: Final = (64, KIB, 16 * KIB, MIB)
QUICK_SIZES: Final = (64, MIB)
WINDOWS: Final = (1, 64)
LEAST_WINDOWS: Final = 2  # full, in a turn
REPETITIONS: Final = 11
QUICK_REPETITIONS, QUICK_TURN_NS = 3, 12_000_000
# Of frames that are sent over and over: few enough to stay in the cache, at least so many, at most so many.
RING_SIZE, RING_LEAST, RING_MOST = 4 * MIB, 3, 251
PATIENCE: Final = 30.0  # seconds, for what comes before the first frame


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


def main(argv: list[str]) -> int:
    """Run the command and return its exit status."""
    return run(FAMILY, argv)


def add_options(parser: argparse.ArgumentParser) -> None:
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


def measured(args: argparse.Namespace) -> Report:
    """Let the servers race in each cell."""
    turn_ns = QUICK_TURN_NS if args.quick else TURN_NS
    repetitions = args.repetitions or (QUICK_REPETITIONS if args.quick else REPETITIONS)
    environment = STEADY if args.malloc == "steady" else {}
    client_core, server_core = two_cores()
    report = new_report("echo", quick=args.quick, settings=settings(environment, repetitions, turn_ns))
    report["echo"] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(on_core(client_core))
        setup = Setup(client_program(), {}, report["left_out"], turn_ns, repetitions)
        start(setup, args.only, environment, server_core, stack)
        report["versions"] = versions(list(setup.servers))
        report["contenders"] = {name: ECHOES[name].kind for name in setup.servers}
        report["does"] = {name: ECHOES[name].does for name in setup.servers}
        for size, window in itertools.product(args.sizes or (QUICK_SIZES if args.quick else SIZES), args.windows):
            say(f"{size_text(size)}, window {window}")
            report["echo"] += cell_rows(setup, size, window)
    return report


def settings(environment: dict[str, str], repetitions: int, turn_ns: int) -> dict[str, str]:
    return {
        "turns": turns_text(repetitions, turn_ns),
        "cores_used": cores_used(),
        "environment": environment_text(environment),
    }


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


def cell_rows(setup: Setup, size: int, window: int) -> list[Report]:
    """Let the servers race with payloads of one size and a window; return a row for each.

    Who gives wrong answers, or none any more, is left out of the cell; raise `BenchError` if that is one of ours.
    """

    def forgive(name: str, error: BenchError | OSError) -> None:
        reason = f"{name}, {size_text(size)}, window {window}: {error}"
        if ECHOES[name].kind == "ours":
            raise BenchError(reason) from None
        setup.left_out.append(reason)

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastframe-bench-"))
        speech = Speech(setup.program, folder, size, window)
        runners = {}
        for name, server in setup.servers.items():
            try:
                each = stack.enter_context(client_of(ECHOES[name], server, speech))
                runners[name] = runner(server, each, LEAST_WINDOWS * window, setup.turn_ns)
            except (BenchError, OSError) as error:
                forgive(name, error)
        result = race(runners, setup.repetitions, forgive)
    cell = {"payload": size, "window": window}
    return [
        {**cell, "contender": name, "frames": runners[name].frames, **figures_of(result, name, window)}
        for name in result.cpu.turns
    ]


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


def figures_of(result: Race, name: str, window: int) -> Report:
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


# What is shown


def figures(report: Report) -> Iterator[Figure]:
    """Yield the server's processor time a message, and where there is one frame at a time, until the answer was here."""
    base = next(iter(report["contenders"]))
    for row in report["echo"]:
        name = f"{cell_text(row)}, {row['contender']}"
        ratio = row["ratio"].get(base)
        paired = Spread(**ratio) if ratio else None
        yield Figure(name, "ns of the server's processor", Spread(**row["cpu_ns"]), paired, row["contender"])
        if row["latency_ns"]:
            answered = Spread(**row["latency_ns"]["median"])
            yield Figure(f"{name}, until the answer", "ns", answered, None, row["contender"])


def charts(report: Report) -> list[Chart]:
    """Return what each server pays for a message in each cell; and how many times the base's, by the size of the payload."""
    kinds = report["contenders"]
    base = next(iter(kinds))
    cells: dict[str, list[Bar]] = {}
    lines: dict[str, dict[str, list[Report]]] = {}
    for row in report["echo"]:
        name = row["contender"]
        cells.setdefault(cell_text(row), []).append(Bar(name, kinds[name], us(row)))
        if base in row["ratio"] and name.endswith(LINES):
            lines.setdefault(f"window {row['window']}", {}).setdefault(name, []).append(row)
    by_size = {window: [line(name, kinds[name], base, rows) for name, rows in own.items()] for window, own in lines.items()}
    return [
        Bars("servers", TITLE, Axis("us of the server's processor a message", "log"), cells, NOTE),
        Lines(
            "payload",
            f"{TITLE}, times {base}, by the size of its payload",
            Axis("payload", "sizes"),
            Axis(f"times {base}", "log"),
            by_size,
            f"{NOTE} Of those on several loops, the ones on asyncio and the fastest of ours.",
        ),
    ]


def line(name: str, kind: str, base: str, rows: list[Report]) -> Line:
    return Line(name, kind, [row["payload"] for row in rows], [Spread(**row["ratio"][base]) for row in rows])


def us(row: Report) -> Spread:
    return Spread(*(ns / 1000 for ns in row["cpu_ns"].values()))


TITLE: Final = "What an echo costs the server"
LINES: Final = (
    "/asyncio",
    "callback/uvloop",
    "c",
    "go",
    "tokio",
    "sync",
    "twisted",
    "socketserver",
)  # more than 14 are a tangle
NOTE: Final = "Less is better. The servers alternate on one core; medians of turns, and the quartiles."
FAMILY: Final = Family(
    "echo",
    summary="the echo server",
    description="Measure what an echo of a frame costs a server: ours each way on each loop, beside asyncio's streams,"
    " Twisted, socketserver, picows, C, Go and tokio.",
    example="echo --only c,callback --sizes 64,16KiB --json echo.json",
    introduction=ECHO_INTRODUCTION,
    add_options=add_options,
    measure=measured,
    bars=echo_verdicts,
    tables=echo_tables,
    figures=figures,
    charts=charts,
)
