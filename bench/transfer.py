"""`fastframe bench transfer`: how fast a file gets from one process to another, and what the size of a chunk and a digest cost.

Three tables: everybody as they come; those that can be told, by the size of a chunk; ours by digest. How they are comparable:

- The file is in memory (tmpfs), and so is its copy, if it is written at all: no disk takes part.
- Server and client are processes of their own, and each is free to use all cores.
- They take turns, and each is compared with the base's turn beside it (`os.sendfile` into `recv_into`); medians of turns.
- Connections stand before the clock runs. It runs from asking until the copy is whole, and its writer has said so.
- A copy is always a new file. The size of each copy is checked, and all its bytes those of the warm-up and the first turn.
- All run with the same settings of glibc (`STEADY`, see `machine.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from fastframe.servers import digests

from .bars import transfer_verdicts
from .command import run
from .entry import BenchError, LeftOutError
from .family import Family, Report, new_report
from .machine import STEADY, environment_text
from .measure import Results, spread, take_turns
from .options import file_size, names_of, numbers, whole_number
from .pairs import Direction, Folders, Job, Runs, Sink, Turn
from .report import say, size_text
from .transferfiles import SOURCE, WARM, check, check_room, clear, make_files
from .transfers import ANYHOW, CONTENDERS, DIGESTS, chosen, missing_digests, versions
from .transfertables import INTRODUCTION, transfer_charts, transfer_figures, transfer_tables

if TYPE_CHECKING:
    from .accounts import Use

KIB, MIB = 1 << 10, 1 << 20
WARM_SIZE: Final = MIB
PLACE: Final = Path("/dev/shm")  # noqa: S108  a folder with a random name is made there
SECOND_BASE: Final = "socat"  # what copies with a buffer, and does nothing else
SHOWN: Final = ("none", "sha256")  # of the digests, outside their own table


class Extent(NamedTuple):
    """How much is measured, unless an option says otherwise."""

    size: int
    chunks: list[int]
    repetitions: int


FULL: Final = Extent(128 * MIB, [KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB], 5)
QUICK: Final = Extent(16 * MIB, [4 * KIB, 64 * KIB, MIB], 3)


class Heat(NamedTuple):
    """Who takes turns: for each label the contender's name and its job."""

    table: str
    direction: Direction
    sink: Sink
    chunk: int
    entries: dict[str, tuple[str, Job]]


def main(argv: list[str]) -> int:
    """Run the command and return its exit status."""
    return run(FAMILY, argv)


def add_options(parser: argparse.ArgumentParser) -> None:
    others = ", ".join(list(CONTENDERS)[1:])
    parser.add_argument("--only", type=names_of(chosen), default=[], metavar="NAME,...", help=f"sendfile and some of: {others}")
    parser.add_argument("--size", type=file_size, metavar="SIZE", help="of the file, such as 2GiB (default: 128MiB)")
    parser.add_argument("--chunks", type=numbers, metavar="SIZE,...", help="(default: 1KiB,4KiB,16KiB,64KiB,256KiB,1MiB,4MiB)")
    parser.add_argument("--repetitions", type=whole_number, metavar="N", help=f"turns of each (default: {FULL.repetitions})")
    parser.add_argument(
        "--dir", type=Path, default=PLACE, help="where files go: a tmpfs with room for two (default: %(default)s)"
    )


def extent(args: argparse.Namespace) -> Extent:
    default = QUICK if args.quick else FULL
    return Extent(args.size or default.size, args.chunks or default.chunks, args.repetitions or default.repetitions)


def measured(args: argparse.Namespace) -> Report:
    """Let them carry the file in turns, each way of it."""
    size, chunks, repetitions = extent(args)
    if sys.platform != "linux":
        raise BenchError("only on Linux are a process's time and memory asked for here")
    check_room(args.dir, size)
    report = new_report("transfer", quick=args.quick, settings=settings(args.dir, size, repetitions))
    report["transfer"] = []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastframe-bench-", dir=args.dir))
        folders = make_files(Path(folder), {SOURCE: size, WARM: min(WARM_SIZE, size)})
        runners = start(args.only, folders, report["left_out"], stack)
        report["left_out"] += missing_digests(list(runners))
        report["versions"] = versions(list(runners))
        report["contenders"] = {name: CONTENDERS[name].kind for name in runners}
        report["does"] = {name: CONTENDERS[name].does for name in runners}
        for heat in heats(list(runners), size, chunks):
            say(heat_text(heat))
            report["transfer"] += heat_rows(heat, runners, folders, repetitions, report["left_out"])
    return report


def settings(place: Path, size: int, repetitions: int) -> dict[str, str]:
    return {
        "file": f"{size_text(size)} in {place}",
        "turns": str(repetitions),
        "cores_used": "all, by both ends",
        "environment": environment_text(STEADY),
    }


def start(only: list[str], folders: Folders, left_out: list[str], stack: contextlib.ExitStack) -> dict[str, Runs]:
    """Start all that can be started."""
    runners = {}
    for name, contender in chosen(only).items():
        say(f"starting {name}")
        try:
            runners[name] = stack.enter_context(contender.start(folders, STEADY))
        except LeftOutError as error:
            if contender.kind == "base":
                raise BenchError(f"{name}: {error}") from None
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


def heat_rows(heat: Heat, runners: dict[str, Runs], folders: Folders, repetitions: int, left_out: list[str]) -> list[Report]:
    """Let them take turns, and return a row for each; who fails is left out, but one of ours is a `BenchError`."""

    def forgive(label: str, error: BenchError) -> None:
        reason = f"{label}, {heat_text(heat)}: {error}"
        if CONTENDERS[heat.entries[label][0]].kind in ("base", "ours"):
            raise BenchError(reason) from None
        left_out.append(reason)

    def players(labels: Iterable[str], change: Callable[[Job], Job]) -> dict[str, Callable[[], Turn]]:
        jobs = {label: heat.entries[label] for label in labels}
        return {label: player(runners[name], change(job), folders) for label, (name, job) in jobs.items()}

    warm = take_turns(players(heat.entries, warm_job), 1, forgive)
    return rows(heat, take_turns(players(warm, lambda job: job), repetitions, forgive))


def warm_job(job: Job) -> Job:
    return job._replace(name=WARM, size=min(WARM_SIZE, job.size))


def player(runner: Runs, job: Job, folders: Folders) -> Callable[[], Turn]:
    """Return what carries the file once, and has a look at its copy: at every byte of the first."""
    thoroughly = itertools.chain([True], itertools.repeat(False))

    def turn() -> Turn:
        clear(folders)
        result = runner.run(job)
        if job.sink == "file":
            check(folders, job, thoroughly=next(thoroughly))
        return result

    return turn


def rows(heat: Heat, turns: dict[str, list[Turn]]) -> list[Report]:
    """Return what a transfer took each, in nanoseconds, and what both ends used."""
    results = Results({label: [float(turn.ns) for turn in took] for label, took in turns.items()})
    cpu = Results({label: [float(turn.server.cpu_ns + turn.client.cpu_ns) for turn in took] for label, took in turns.items()})
    bases = [label for label in turns if label in (next(iter(turns)), SECOND_BASE)]
    where = {"table": heat.table, "direction": heat.direction, "sink": heat.sink, "chunk": heat.chunk}
    found = []
    for label, took in turns.items():
        name, job = heat.entries[label]
        row = where | {"label": label, "contender": name, "digest": job.digest, "bytes": job.size}
        row |= {"ns": results.ns(label)._asdict(), "cpu_ns": cpu.ns(label)._asdict()}
        row["ratio"] = {base: results.ratio(label, base)._asdict() for base in bases}
        row["cpu_ratio"] = {base: cpu.ratio(label, base)._asdict() for base in bases}
        row |= {"server": end_figures([turn.server for turn in took]), "client": end_figures([turn.client for turn in took])}
        found.append(row)
    return found


def end_figures(uses: list[Use]) -> Report:
    """Return nanoseconds on processors, and bytes of memory: the most in a turn, and more than before all transfers."""
    return {
        "cpu_ns": spread([float(use.cpu_ns) for use in uses])._asdict(),
        "peak": max(use.peak for use in uses),
        "grown": max(use.grown for use in uses),
    }


FAMILY: Final = Family(
    "transfer",
    summary="a file from one process to another",
    description="Measure how fast a file gets through our server of files, beside a bare os.sendfile, socat, FTP and SFTP,"
    " and what chunk size and digest cost.",
    example="transfer --size 1GiB --only socat,openssh --json transfer.json",
    introduction=INTRODUCTION,
    add_options=add_options,
    measure=measured,
    bars=transfer_verdicts,
    tables=transfer_tables,
    figures=transfer_figures,
    charts=transfer_charts,
)
