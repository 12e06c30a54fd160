"""`fastframe bench report FILE.json ...`: the tables, the page and the pictures again, of what was measured before."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .command import add_drawing_options, can_write, of_files, print_report, read_json, save
from .entry import BenchError
from .families import NAMES, family
from .report import say

if TYPE_CHECKING:
    from .family import Family, Report


def main(argv: list[str]) -> int:
    """Run the command and return its exit status: 1 if a file cannot be read or written."""
    parser = argparse.ArgumentParser(
        prog="fastframe bench report",
        description="Show again what was measured before, and write page, pictures and tables of it.",
        epilog="example: fastframe bench report all.json --html report.html",
    )
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE.json", help="of a family that is in several, the last counts"
    )
    add_drawing_options(parser)
    parser.set_defaults(json=None)
    args = parser.parse_args(argv)
    if not can_write(args):
        return 1
    try:
        results = list(read(args.files).values())
        with of_files():
            for each, report in results:
                print_report(each, report)
            return save(args, results)
    except BenchError as error:
        say(f"fastframe bench report: {error}")
        return 1


def read(paths: list[Path]) -> dict[str, tuple[Family, Report]]:
    """Return the families and their reports by name; raise `BenchError` if that cannot be."""
    reports = {report["benchmark"]: report for path in paths for report in read_json(path)}
    return {name: (family(name), reports[name]) for name in sorted(reports, key=place)}


def place(name: str) -> int:
    """Return where a family stands among all; one that there is not comes last, and is a `BenchError` then."""
    return NAMES.index(name) if name in NAMES else len(NAMES)
