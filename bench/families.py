"""`fastframe bench`: all families of benchmarks, one after the other, into one report.

A family that cannot be measured here says why, and the others go on; the exit status is 1 then. The JSON file is written after
each family, so that what was measured before a power cut is there.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from . import command
from .entry import BenchError
from .options import names_of
from .report import say

if TYPE_CHECKING:
    from .family import Family, Report

# In the order in which one asks: what the codec can do, what is left of it on a connection, what servers make of that.
NAMES: Final = ("codec", "chunks", "echo", "udp", "transfer", "exec", "chat", "memory", "startup")


def family(name: str) -> Family:
    """Return a family by its name; raise `BenchError` if there is none."""
    if name not in NAMES:
        raise BenchError(f"there is no family {name!r}")
    found: Family = importlib.import_module(f".{name}", __package__).FAMILY  # one that is not asked for is not imported
    return found


@command.ended_by_signals()
def main(argv: list[str]) -> int:
    """Run the command and return its exit status: 1 if a family could not be measured."""
    parser = argparse.ArgumentParser(
        prog="fastframe bench",
        description="Measure everything, beside its peers and what nobody can pass: " + ", ".join(NAMES) + "."
        " Each of them is a command too, with options of its own: fastframe bench codec --help."
        " So are compare, report and recommend.",
        epilog="example: fastframe bench --quick --html report.html",
    )
    command.add_quick_option(parser, "minutes instead of half an hour")
    parser.add_argument("--only", type=names_of(chosen), default=[], metavar="NAME,...", help="these families alone")
    command.add_file_options(parser)
    args = parser.parse_args(argv)
    if not command.can_write(args):
        return 1
    results: list[tuple[Family, Report]] = []
    failed = False
    for name in chosen(args.only):
        each = family(name)
        began = time.monotonic()
        say(f"== {name}: {each.summary}")
        try:
            report = command.measured(each, command.parse(each, ["--quick"] if args.quick else []))
        except (BenchError, OSError) as error:
            say(f"fastframe bench {name}: {error}")
            failed = True
            continue
        say(f"== {name} took {time.monotonic() - began:.0f} s")
        results.append((each, report))
        command.print_report(each, report)
        if args.json:
            with contextlib.suppress(OSError):  # of which `save` tells in the end, when there may be room again
                command.write_json(args.json, [report for _, report in results])
    return command.save(args, results) or int(failed)


def chosen(names: Sequence[str]) -> list[str]:
    """Return the families that `names` name, all without any, in their own order; raise ValueError for a name that is none."""
    for name in names:
        if name not in NAMES:
            raise ValueError(f"there is no {name!r}; there are {', '.join(NAMES)}")
    return [name for name in NAMES if not names or name in names]
