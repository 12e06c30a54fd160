"""`fastframe bench transfer`: how fast a file gets from one process to another, and what the size of a chunk and a digest cost.

Three tables: everybody as they come; those that can be told, by the size of a chunk; ours by digest. How they are comparable:

- The file is in memory (tmpfs), and so is its copy, if it is written at all: no disk takes part.
- Server and client are processes of their own, and each is free to use all cores.
- They take turns, and each is compared with the base's turn beside it (`os.sendfile` into `recv_into`); medians of turns.
- Connections stand before the clock runs. It runs from asking until the copy is whole, and its writer has said so.
- A copy is always a new file. The size of each copy is checked, and all its bytes those of two turns.
- All run with the same settings of glibc (`STEADY`, see `echo.py`).

A signal that ends the bench takes the files along.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from fastframe.servers import digests

from .bars import transfer_verdicts
from .command import ended_by_signals
from .entry import BenchError, LeftOutError
from .machine import STEADY, machine
from .measure import Results, spread
from .options import file_size, names_of, numbers, whole_number
from .pairs import Direction, Folders, Job, Runs, Sink, Turn
from .report import add_file_options, save, say, size_text
from .transferfiles import SOURCE, WARM, check, check_room, clear, make_files
from .transfers import ANYHOW, CONTENDERS, DIGESTS, chosen, missing_digests, versions
from .transfertables import print_transfer, transfer_markdown

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SIZE, QUICK_SIZE, WARM_SIZE = 2 * GIB, 16 * MIB, MIB
CHUNKS: Final = (KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB)
QUICK_CHUNKS: Final = (4 * KIB, 64 * KIB, MIB)
REPETITIONS, QUICK_REPETITIONS = 5, 3
PLACE: Final = Path("/dev/shm")  # noqa: S108  a folder with a random name is made there
SECOND_BASE: Final = "socat"  # what copies with a buffer, and does nothing else
SHOWN: Final = ("none", "sha256")  # of the digests, outside their own table

Row = dict[str, Any]


class Heat(NamedTuple):
    """Who takes turns: for each label the contender's name and its job."""

    table: str
    direction: Direction
    sink: Sink
    chunk: int
    entries: dict[str, tuple[str, Job]]


def main(argv: list[str]) -> int:
    """Run the command and return its exit status."""
    args = parse(argv)
    report = new_report(args)
    try:
        with ended_by_signals(), contextlib.ExitStack() as stack:
            if sys.platform != "linux":
                raise BenchError("only on Linux are a process's time and memory asked for here")
            check_room(args.dir, args.size)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastframe-bench-", dir=args.dir))
            folders = make_files(Path(folder), {SOURCE: args.size, WARM: min(WARM_SIZE, args.size)})
            runners = start(args.only, folders, report["left_out"], stack)
            report["left_out"] += missing_digests(list(runners))
            report["versions"] = versions(list(runners))
            report["contenders"] = {name: CONTENDERS[name].kind for name in runners}
            report["settings"] |= {name: CONTENDERS[name].settings for name in runners}
            for heat in heats(list(runners), args.size, args.chunks):
                say(heat_text(heat))
                report["transfer"] += heat_rows(heat, runners, folders, args.repetitions, report["left_out"])
    except (BenchError, OSError) as error:
        say(f"fastframe bench transfer: {error}")
        return 1
    report["bars"] = transfer_verdicts(report)
    print_transfer(report)
    return save(args, report, transfer_markdown)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fastframe bench transfer",
        description="Measure how fast a file gets through our server of files, beside a bare os.sendfile, socat, FTP and SFTP,"
        " and what chunk size and digest cost.",
        epilog="example: fastframe bench transfer --size 1GiB --only socat,openssh --json transfer.json",
    )
    parser.add_argument("--quick", action="store_true", help=f"a file of {size_text(QUICK_SIZE)}, fewer chunk sizes and turns")
    parser.add_argument(
        "--only",
        type=names_of(chosen),
        default=[],
        metavar="NAME,...",
        help=f"sendfile and some of: {', '.join(list(CONTENDERS)[1:])}",
    )
    parser.add_argument("--size", type=file_size, metavar="SIZE", help="of the file, such as 300MiB (default: 2GiB)")
    parser.add_argument("--chunks", type=numbers, metavar="SIZE,...", help="(default: 1KiB,4KiB,16KiB,64KiB,256KiB,1MiB,4MiB)")
    parser.add_argument("--repetitions", type=whole_number, metavar="N", help=f"turns of each (default: {REPETITIONS})")
    parser.add_argument(
        "--dir", type=Path, default=PLACE, help="where files go: a tmpfs with room for two (default: %(default)s)"
    )
    add_file_options(parser)
    args = parser.parse_args(argv)
    args.size = args.size or (QUICK_SIZE if args.quick else SIZE)
    args.chunks = args.chunks or (QUICK_CHUNKS if args.quick else CHUNKS)
    args.repetitions = args.repetitions or (QUICK_REPETITIONS if args.quick else REPETITIONS)
    return args


def new_report(args: argparse.Namespace) -> Row:
    """Return a report without contenders and results."""
    return {
        "benchmark": "transfer",
        "machine": machine(),
        "settings": {
            "file": f"{size_text(args.size)} in {args.dir}",
            "repetitions": args.repetitions,
            "cores_used": "all, by both ends",
            "environment": " ".join(f"{key}={value}" for key, value in STEADY.items()),
        },
        "left_out": [],
        "transfer": [],
    }


def start(only: list[str], folders: Folders, left_out: list[str], stack: contextlib.ExitStack) -> dict[str, Runs]:
    """Start all that can be started."""
    runners = {}
    for name, contender in chosen(only).items():
        say(f"starting {name}")
        try:
            runners[name] = stack.enter_context(contender.start(folders, STEADY))
        except LeftOutError as error:
            left_out.append(f"{name}: {error}")
    return runners


def heats(names: list[str], size: int, chunks: list[int]) -> Iterator[Heat]:
    """Yield who has to take turns for the three tables: only neighbours are compared, so few are in each."""
    for direction, sink in ANYHOW:
        able = [name for name in names if (direction, sink) in CONTENDERS[name].ways]
        job = Job(direction, sink, SOURCE, size)
        as_they_come = [name for name in able if not CONTENDERS[name].chunked or len(CONTENDERS[name].digests) > 1]
        yield Heat("everybody", direction, sink, 0, entries(as_they_come, job, SHOWN))
        told = [name for name in able if CONTENDERS[name].chunked]
        for chunk in chunks if told else ():
            yield Heat("chunks", direction, sink, chunk, entries([names[0], *told], job._replace(chunk=chunk), SHOWN))
        digesting = [name for name in able if len(CONTENDERS[name].digests) > 1]
        if digesting and sink == "file":
            bases = [name for name in able if name in (names[0], SECOND_BASE)]
            yield Heat("digests", direction, sink, 0, entries([*bases, *digesting], job, DIGESTS))


def entries(names: list[str], job: Job, wanted: tuple[str, ...]) -> dict[str, tuple[str, Job]]:
    """Return the jobs of `names` by label, one for each digest that they can make."""
    return {
        name if digest == "none" else f"{name} {digest}": (name, job._replace(digest=digest))
        for name in names
        for digest in wanted
        if digest in CONTENDERS[name].digests and digest in digests.available()
    }


def heat_text(heat: Heat) -> str:
    chunk = f", chunks of {size_text(heat.chunk)}" if heat.chunk else ""
    return f"{heat.table}: {heat.direction}, {heat.sink}{chunk}"


def heat_rows(heat: Heat, runners: dict[str, Runs], folders: Folders, repetitions: int, left_out: list[str]) -> list[Row]:
    """Let them take turns, and return a row for each; who fails is left out, but one of ours is a `BenchError`."""
    turns: dict[str, list[Turn]] = {}
    for label, (name, job) in heat.entries.items():
        try:
            turn(runners[name], job._replace(name=WARM, size=min(WARM_SIZE, job.size)), folders, thoroughly=True)
            turns[label] = []
        except BenchError as error:
            reason = f"{label}, {heat_text(heat)}: {error}"
            if CONTENDERS[name].kind == "ours" or name == next(iter(CONTENDERS)):
                raise BenchError(reason) from None
            left_out.append(reason)
    order = list(turns)
    for number in range(repetitions):
        for label in order:
            name, job = heat.entries[label]
            turns[label].append(turn(runners[name], job, folders, thoroughly=number == 0))
        order.append(order.pop(0))  # nobody always follows the same neighbour
    return rows(heat, turns)


def turn(runner: Runs, job: Job, folders: Folders, *, thoroughly: bool) -> Turn:
    clear(folders)
    result = runner.run(job)
    if job.sink == "file":
        check(folders, job, thoroughly=thoroughly)
    return result


def rows(heat: Heat, turns: dict[str, list[Turn]]) -> list[Row]:
    results = Results({label: [float(turn.ns) for turn in took] for label, took in turns.items()})
    bases = [label for label in turns if label in (next(iter(turns)), SECOND_BASE)]
    where = {"table": heat.table, "direction": heat.direction, "sink": heat.sink, "chunk": heat.chunk}
    found = []
    for label, took in turns.items():
        name, job = heat.entries[label]
        row = where | {"label": label, "contender": name, "digest": job.digest, "bytes": job.size}
        row["gb_s"] = spread([job.size / turn.ns for turn in took])._asdict()
        row["ratio"] = {base: results.ratio(label, base)._asdict() for base in bases}
        for end, uses in (("server", [turn.server for turn in took]), ("client", [turn.client for turn in took])):
            row[end] = {
                "cpu_s_gib": spread([use.cpu_ns / 1e9 * GIB / job.size for use in uses])._asdict(),
                "peak": max(use.peak for use in uses),
                "grown": max(use.grown for use in uses),
            }
        found.append(row)
    return found
