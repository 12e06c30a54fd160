"""`fastframe bench exec`: how long the smallest command takes, how many there are a second, and how fast output comes.

Three tables: `true`, one after another; `true`, several at once; and a program that prints a lot. How they are comparable:

- Each does the same work: it runs the program, and has its status and all that it wrote on both streams; none is given stdin.
  The base alone has no ears: `os.posix_spawn` and `waitpid` with /dev/null, the least that runs a program at all.
- Each has a client process of its own. Servers are other processes; clients reach them over TCP on loopback, or pipes.
- They take turns, and each is compared with the base's turn beside it; medians of turns. Who comes first changes.
- Connections stand before the clock runs.
- All run with the same settings of glibc (`STEADY`, see `machine.py`), and are free to use all cores.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from .accounts import children, cpu_ns_of_all
from .bars import exec_verdicts
from .command import run
from .entry import BenchError
from .execends import Answer, Job
from .execs import CONTENDERS, Runs, chosen, versions
from .exectables import INTRODUCTION, exec_charts, exec_figures, exec_tables
from .family import Family, Report, new_report
from .machine import STEADY, environment_text
from .measure import Results, spread, take_turns
from .options import file_size, names_of, whole_number
from .report import say, size_text

MIB: Final = 1 << 20
AT_ONCE: Final = 8  # OpenSSH's sshd allows 10 on a connection
SECOND_BASE: Final = "pipes"  # what does the whole work, and nothing else


class Extent(NamedTuple):
    """How much is measured, unless an option says otherwise: turns of so many seconds, and bytes of output."""

    turns: int
    seconds: float
    size: int


FULL: Final = Extent(11, 0.5, 128 * MIB)  # 0.5 s: a hundred runs of who takes 5 ms
QUICK: Final = Extent(3, 0.1, 16 * MIB)


class Started(NamedTuple):
    """A contender that runs; `processes` are those that were started for it, besides their descendants."""

    runs: Runs
    processes: list[int]


class Turn(NamedTuple):
    answer: Answer
    cpu_ns: int


class Heat(NamedTuple):
    """Who takes turns with what job."""

    table: str
    job: Job
    names: list[str]


def main(argv: list[str]) -> int:
    """Run the command and return its exit status."""
    return run(FAMILY, argv)


def add_options(parser: argparse.ArgumentParser) -> None:
    others = ", ".join(list(CONTENDERS)[1:])
    parser.add_argument(
        "--only", type=names_of(chosen), default=[], metavar="NAME,...", help=f"posix_spawn and some of: {others}"
    )
    parser.add_argument("--turns", type=whole_number, metavar="N", help=f"of each (default: {FULL.turns})")
    parser.add_argument(
        "--at-once", type=whole_number, default=AT_ONCE, metavar="N", help="commands in the second table (default: %(default)s)"
    )
    parser.add_argument("--size", type=file_size, metavar="SIZE", help="of the output, such as 2GiB (default: 128MiB)")


def extent(args: argparse.Namespace) -> Extent:
    default = QUICK if args.quick else FULL
    return default._replace(turns=args.turns or default.turns, size=args.size or default.size)


def measured(args: argparse.Namespace) -> Report:
    """Let them run commands in turns: one after another, several at once, and one that prints."""
    if sys.platform != "linux":
        raise BenchError("only on Linux are the contenders what they are said to be here")
    how = extent(args)
    report = new_report("exec", quick=args.quick, settings=settings(how))
    report["exec"] = []
    with contextlib.ExitStack() as stack:
        clients = start(args.only, args.at_once, report["left_out"], stack)
        report["versions"] = versions(list(clients))
        report["contenders"] = {name: CONTENDERS[name].kind for name in clients}
        report["does"] = {name: CONTENDERS[name].does for name in clients}
        for heat in heats(list(clients), how, args.at_once):
            say(heat_text(heat))
            report["exec"] += heat_rows(heat, clients, how.turns, report["left_out"])
    return report


def settings(how: Extent) -> dict[str, str]:
    return {
        "turns": f"{how.turns} of {how.seconds:g} s",
        "cores_used": "all, by both ends",
        "environment": environment_text(STEADY),
    }


def start(only: list[str], at_once: int, left_out: list[str], stack: contextlib.ExitStack) -> dict[str, Started]:
    """Start all that can be started."""
    clients = {}
    for name, contender in chosen(only).items():
        say(f"starting {name}")
        before = children(os.getpid())
        try:
            runs = stack.enter_context(contender.start(at_once, STEADY))
            clients[name] = Started(runs, [pid for pid in children(os.getpid()) if pid not in before])
        except BenchError as error:
            if contender.kind == "base":
                raise BenchError(f"{name}: {error}") from None
            left_out.append(f"{name}: {error}")
    return clients


def heats(names: list[str], how: Extent, at_once: int) -> Iterator[Heat]:
    yield Heat("one", Job(how.seconds), names)
    yield Heat("several", Job(how.seconds, at_once), names)
    printing = [name for name in names if CONTENDERS[name].prints]
    if printing:
        yield Heat("output", Job(size=how.size), printing)


def heat_text(heat: Heat) -> str:
    job = heat.job
    return f"{size_text(job.size)} of output" if job.size else f"true, {job.at_once} at once"


def heat_rows(heat: Heat, clients: dict[str, Started], turns: int, left_out: list[str]) -> list[Report]:
    """Let them take turns, and return a row for each; who fails is left out, but one of ours is a `BenchError`."""

    def forgive(name: str, error: BenchError) -> None:
        reason = f"{name}, {heat_text(heat)}: {error}"
        if CONTENDERS[name].kind in ("base", "ours"):
            raise BenchError(reason) from None
        left_out.append(reason)

    def players(names: Iterable[str], job: Job) -> dict[str, Callable[[], Turn]]:
        return {name: player(clients[name], job) for name in names}

    warm = take_turns(players(heat.names, heat.job._replace(seconds=0, size=min(heat.job.size, MIB))), 1, forgive)
    return rows(heat, take_turns(players(warm, heat.job), turns, forgive))


def player(started: Started, job: Job) -> Callable[[], Turn]:
    def turn() -> Turn:
        before = cpu_ns_of_all(started.processes)
        answer = started.runs.do(job)
        return Turn(answer, cpu_ns_of_all(started.processes) - before)

    return turn


def rows(heat: Heat, took: dict[str, list[Turn]]) -> list[Report]:
    """Return what a run of each took, in nanoseconds; those that ran at once are not told apart, but share the turn's time."""
    whole = heat.job.at_once > 1
    results = Results({name: [run_ns(turn.answer, whole=whole) for turn in turns] for name, turns in took.items()})
    bases = [name for name in took if name in (next(iter(took)), SECOND_BASE)]
    found = []
    for name, turns in took.items():
        runs = sorted(ns for turn in turns for ns in turn.answer.runs)
        row = {"table": heat.table, "contender": name, "at_once": heat.job.at_once, "bytes": heat.job.size}
        row |= {"ns": results.ns(name)._asdict(), "runs": len(runs), "slow": runs[len(runs) * 99 // 100]}
        row["cpu_ns"] = spread([turn.cpu_ns / len(turn.answer.runs) for turn in turns])._asdict()
        found.append(row | {"ratio": {base: results.ratio(name, base)._asdict() for base in bases}})
    return found


def run_ns(answer: Answer, *, whole: bool) -> float:
    return answer.ns / len(answer.runs) if whole else spread([float(ns) for ns in answer.runs]).median


FAMILY: Final = Family(
    "exec",
    summary="commands",
    description="Measure what it costs to run a command: through our server with and without its sandbox, beside a bare"
    " os.posix_spawn, subprocess, asyncio, execnet, rpyc, asyncssh and OpenSSH.",
    example="exec --only subprocess,openssh --turns 5 --json exec.json",
    introduction=INTRODUCTION,
    add_options=add_options,
    measure=measured,
    bars=exec_verdicts,
    tables=exec_tables,
    figures=exec_figures,
    charts=exec_charts,
)
