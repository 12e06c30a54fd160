"""`fastframe bench exec`: how long the smallest command takes, how many there are a second, and how fast output comes.

Three tables: `true`, one after another; `true`, several at once; and a program that prints a lot. How they are comparable:

- Each does the same work: it runs the program, and has its status and all that it wrote on both streams; none is given stdin.
  The base alone has no ears: `os.posix_spawn` and `waitpid` with /dev/null, the least that runs a program at all.
- Each has a client process of its own. Servers are other processes; clients reach them over TCP on loopback, or pipes.
- They take turns, and each is compared with the base's turn beside it; medians of turns. Who comes first changes.
- Connections stand before the clock runs.
- All run with the same settings of glibc (`STEADY`, see `echo.py`), and are free to use all cores.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from .command import ended_by_signals
from .entry import BenchError, LeftOutError
from .execends import Answer, Job
from .execs import CONTENDERS, Runs, chosen, versions
from .exectables import exec_markdown, print_exec
from .machine import STEADY, machine
from .measure import Results, spread
from .options import file_size, names_of, whole_number
from .pairs import family
from .report import add_file_options, save, say, size_text

MIB: Final = 1 << 20
TURNS, QUICK_TURNS = 11, 3
SECONDS, QUICK_SECONDS = 0.5, 0.1  # of a turn: a hundred runs of who takes 5 ms
AT_ONCE: Final = 8  # OpenSSH's sshd allows 10 on a connection
SIZE, QUICK_SIZE = 256 * MIB, 16 * MIB
SECOND_BASE: Final = "pipes"  # what does the whole work, and nothing else

Row = dict[str, Any]


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
    args = parse(argv)
    report = new_report(args)
    try:
        with ended_by_signals(), contextlib.ExitStack() as stack:
            if sys.platform != "linux":
                raise BenchError("only on Linux are the contenders what they are said to be here")
            clients = start(args.only, args.at_once, report["left_out"], stack)
            report["versions"] = versions(list(clients))
            report["contenders"] = {name: CONTENDERS[name].kind for name in clients}
            report["settings"] |= {name: CONTENDERS[name].settings for name in clients}
            for heat in heats(list(clients), args):
                say(heat_text(heat))
                report["exec"] += heat_rows(heat, clients, args.turns, report["left_out"])
    except (BenchError, OSError) as error:
        say(f"fastframe bench exec: {error}")
        return 1
    print_exec(report)
    return save(args, report, exec_markdown)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fastframe bench exec",
        description="Measure what it costs to run a command: through our server with and without its sandbox, beside a bare"
        " os.posix_spawn, subprocess, asyncio, execnet, rpyc, asyncssh and OpenSSH.",
        epilog="example: fastframe bench exec --only subprocess,openssh --turns 5 --json exec.json",
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns, less output")
    parser.add_argument(
        "--only",
        type=names_of(chosen),
        default=[],
        metavar="NAME,...",
        help=f"posix_spawn and some of: {', '.join(list(CONTENDERS)[1:])}",
    )
    parser.add_argument("--turns", type=whole_number, metavar="N", help=f"of each (default: {TURNS})")
    parser.add_argument(
        "--at-once", type=whole_number, default=AT_ONCE, metavar="N", help="commands in the second table (default: %(default)s)"
    )
    parser.add_argument("--size", type=file_size, metavar="SIZE", help="of the output, such as 2GiB (default: 256MiB)")
    add_file_options(parser)
    args = parser.parse_args(argv)
    args.size = args.size or (QUICK_SIZE if args.quick else SIZE)
    args.turns = args.turns or (QUICK_TURNS if args.quick else TURNS)
    args.seconds = QUICK_SECONDS if args.quick else SECONDS
    return args


def new_report(args: argparse.Namespace) -> Row:
    """Return a report without contenders and results."""
    return {
        "benchmark": "exec",
        "machine": machine(),
        "settings": {
            "turns": f"{args.turns} of {args.seconds:g} s",
            "cores_used": "all, by both ends",
            "environment": " ".join(f"{key}={value}" for key, value in STEADY.items()),
        },
        "left_out": [],
        "bars": [],
        "exec": [],
    }


def start(only: list[str], at_once: int, left_out: list[str], stack: contextlib.ExitStack) -> dict[str, Started]:
    """Start all that can be started."""
    clients = {}
    for name, contender in chosen(only).items():
        say(f"starting {name}")
        before = children()
        try:
            runs = stack.enter_context(contender.start(at_once, STEADY))
            clients[name] = Started(runs, [pid for pid in children() if pid not in before])
        except (LeftOutError, BenchError) as error:
            if contender.kind == "base":
                raise BenchError(f"{name}: {error}") from None
            left_out.append(f"{name}: {error}")
    return clients


def heats(names: list[str], args: argparse.Namespace) -> Iterator[Heat]:
    yield Heat("one", Job(args.seconds), names)
    yield Heat("several", Job(args.seconds, args.at_once), names)
    printing = [name for name in names if CONTENDERS[name].prints]
    if printing:
        yield Heat("output", Job(size=args.size), printing)


def heat_text(heat: Heat) -> str:
    job = heat.job
    return f"{size_text(job.size)} of output" if job.size else f"true, {job.at_once} at once"


def heat_rows(heat: Heat, clients: dict[str, Started], turns: int, left_out: list[str]) -> list[Row]:
    """Let them take turns, and return a row for each; who fails is left out, but one of ours is a `BenchError`."""
    took: dict[str, list[Turn]] = {}
    for name in heat.names:
        try:
            clients[name].runs.do(heat.job._replace(seconds=0, size=min(heat.job.size, MIB)))
            took[name] = []
        except BenchError as error:
            reason = f"{name}, {heat_text(heat)}: {error}"
            if CONTENDERS[name].kind in ("base", "ours"):
                raise BenchError(reason) from None
            left_out.append(reason)
    order = list(took)
    for _ in range(turns):
        for name in order:
            took[name].append(turn(clients[name], heat.job))
        order = order[1:] + order[:1]  # nobody always follows the same neighbour
    return rows(heat, took) if took else []


def turn(started: Started, job: Job) -> Turn:
    before = cpu_ns(started.processes)
    answer = started.runs.do(job)
    return Turn(answer, cpu_ns(started.processes) - before)


def children() -> list[int]:
    return [int(pid) for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]


def cpu_ns(processes: list[int]) -> int:
    """Return the time on the processor of all of a contender, what has ended included; exact to a tick of 10 ms each."""
    ticks = 0
    for pid in (member for process in processes for member in family(process)):
        with contextlib.suppress(OSError):  # it has just ended
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # its own, and of children that it has waited for: proc_pid_stat(5)
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def rows(heat: Heat, took: dict[str, list[Turn]]) -> list[Row]:
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
