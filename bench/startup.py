"""`fastframe bench startup`: what it costs to import fastframe and to start its command, beside a bare interpreter and others.

Each contender is a fresh process in each turn, all on one core. The figures are the time that the kernel charged it with, user
and system, and the time until it had ended, or had said that it is up; then it is killed. What is over that of the bare
interpreter is taken turn by turn. A first run of each, untimed, leaves compiled modules behind, and tells how many modules
there are in the end and the most memory that was in use.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .charts import Axis, Bar, Bars, Chart
from .command import run
from .entry import BenchError, choose
from .family import Family, Figure, Report, new_report
from .machine import package_versions
from .measure import Results, Spread, on_core, quiet, spread, take_turns, two_cores
from .options import names_of, whole_number
from .report import say
from .starts import BASE, FLAGS, PROGRAMS, STARTS, Took, facts, run_once
from .startuptables import STARTUP_INTRODUCTION, startup_tables

REPETITIONS: Final = 31
QUICK_REPETITIONS: Final = 5
PACKAGES: Final = ("msgpack", "hiredis", "protobuf", "picows", "websockets", "twisted")


def main(argv: list[str]) -> int:
    """Run the command and return its exit status."""
    return run(FAMILY, argv)


def add_options(parser: argparse.ArgumentParser) -> None:
    only = names_of(lambda parts: choose(STARTS, parts))
    parser.add_argument("--only", type=only, default=[], metavar="NAME,...", help=f"some of: {', '.join(STARTS)}")
    parser.add_argument("--repetitions", type=whole_number, metavar="N", help=f"turns of each (default: {REPETITIONS})")


def measured(args: argparse.Namespace) -> Report:
    """Let the programs start in turns."""
    core = two_cores()[1]
    repetitions = args.repetitions or (QUICK_REPETITIONS if args.quick else REPETITIONS)
    settings = {
        "turns": str(repetitions),
        "interpreter": " ".join(("python", *FLAGS)),
        "cores_used": "not pinned: there is one" if core is None else "one",
    }
    report = new_report("startup", quick=args.quick, settings=settings)
    with on_core(core), quiet():
        found = first_runs(choose(STARTS, args.only), report["left_out"])
        say(f"{len(found)} programs, {repetitions} turns")
        turns = take_turns({name: functools.partial(run_once, STARTS[name]) for name in found}, repetitions)
    report["contenders"] = {name: STARTS[name].kind for name in found}
    report["does"] = {name: STARTS[name].does for name in found}
    report["versions"] = package_versions(name for name in PACKAGES if name in found)
    report["startup"] = [{"contender": name, **found[name], **figures_of(turns, name)} for name in found]
    return report


def first_runs(names: Mapping[str, Any], left_out: list[str]) -> dict[str, dict[str, Any]]:
    """Return what the first run of each tells; a peer that fails is left out, one of ours raises `BenchError`."""
    found = {}
    for name in names:
        say(f"starting {name}")
        try:
            found[name] = facts(STARTS[name])
        except BenchError as error:
            if STARTS[name].kind in ("base", "ours"):
                raise BenchError(f"{name}: {error}") from None
            left_out.append(f"{name}: {error}")
    return found


def figures_of(turns: Mapping[str, list[Took]], name: str) -> Report:
    """Return spreads of nanoseconds: a run's, what is over the base's of the same turn, and how many times the base's."""
    found = {}
    for at, part in enumerate(Took._fields):
        results = Results({each: [took[at] for took in turns[each]] for each in (name, BASE)})
        over = [own - base for own, base in zip(results.turns[name], results.turns[BASE], strict=True)]
        found[part] = {
            "ns": results.ns(name)._asdict(),
            "over": spread(over)._asdict(),
            "ratio": results.ratio(name, BASE)._asdict(),
        }
    return found


# What is shown


def figures(report: Report) -> Iterator[Figure]:
    """Yield the processor time and the time of each program."""
    for row in report["startup"]:
        for part in Took._fields:
            own = row[part]
            yield Figure(f"{row['contender']}, {part}", "ns", Spread(**own["ns"]), Spread(**own["ratio"]), row["contender"])


def charts(report: Report) -> list[Chart]:
    """Return what each import and each program costs over the bare interpreter."""
    panels: dict[str, list[Bar]] = {}
    for row in report["startup"]:
        name = row["contender"]
        if name != BASE:
            over = Spread(*(ns / 1e6 for ns in row["processor"]["over"].values()))
            panels.setdefault("programs" if name in PROGRAMS else "import", []).append(
                Bar(name, report["contenders"][name], over)
            )
    return [Bars("over", "What it costs to start", Axis("ms of the processor over a bare interpreter"), panels, NOTE)]


NOTE: Final = "Less is better. Fresh processes in turns on one core, with compiled modules at hand; medians, and the quartiles."
FAMILY: Final = Family(
    "startup",
    summary="start-up, what an import and a command cost",
    description="Measure what it costs to import fastframe and to start its command, beside a bare interpreter, asyncio,"
    " socket, msgpack, hiredis, protobuf, picows, websockets and Twisted.",
    example="startup --only asyncio,fastframe.aio --json startup.json",
    introduction=STARTUP_INTRODUCTION,
    add_options=add_options,
    measure=measured,
    bars=lambda _: [],
    tables=startup_tables,
    figures=figures,
    charts=charts,
)
