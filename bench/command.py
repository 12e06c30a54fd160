"""What every benchmark's command does: options, the run, tables on the terminal, files.

What is written and shown is made of reports alone, so that it can be made again of a file (`read_json`).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .bars import not_judged
from .entry import BenchError
from .files import against_file, write_whole
from .machine import STEADY_MEMCPY
from .report import print_table, say
from .tables import bars_table, print_verdicts, table_text

if TYPE_CHECKING:
    from .family import Family, Report

DRAWS_WITH: Final = {"html": "plotly", "png": "matplotlib"}  # extras, by option
SIGNALLED: Final = 128  # and the number of the signal that ended a program: its status, as a shell says it
FILE_FORMAT: Final = 1  # of the JSON files; another number where an old file would be misread
MOST_STUMBLE: Final = 2  # times as long as a copy between other addresses (`memcpy_stumble`)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP unwind as Ctrl-C does, so that no server and no gigabytes of files stay behind.

    The exit status is what a shell makes of the signal: 143 and 129. Who has SIGHUP ignored (nohup) goes on.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    heard = [number for number, handler in before.items() if handler != signal.SIG_IGN]

    def end(number: int, frame: object) -> None:  # noqa: ARG001  what handlers get
        for each in heard:
            signal.signal(each, signal.SIG_IGN)  # another one shall not break off the cleaning up
        ended_by.append(number)
        raise SystemExit(SIGNALLED + number)

    ended_by: list[int] = []
    for number in heard:
        signal.signal(number, end)
    try:
        yield
    finally:
        for end_signal in ended_by:  # not said by the handler: it may have come while stderr was written to
            say(f"fastframe bench: ended by {signal.Signals(end_signal).name}")
        for number in heard:
            signal.signal(number, before[number])


@ended_by_signals()
def run(family: Family, argv: Sequence[str]) -> int:
    """Run a family's command and return its exit status."""
    args = parse(family, argv)
    if not can_write(args):
        return 1
    try:
        report = measured(family, args)
    except (BenchError, OSError) as error:
        say(f"fastframe bench {family.name}: {error}")
        return 1
    print_report(family, report)
    return save(args, [(family, report)])


def parse(family: Family, argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"fastframe bench {family.name}",
        description=family.description,
        epilog=f"example: fastframe bench {family.example}",
    )
    add_quick_option(parser)
    family.add_options(parser)
    add_file_options(parser)
    return parser.parse_args(argv)


def add_quick_option(parser: argparse.ArgumentParser, text: str = "under 30 s, once all is compiled") -> None:
    parser.add_argument("--quick", action="store_true", help=f"fewer cells, shorter turns: {text}")


def measured(family: Family, args: argparse.Namespace) -> Report:
    """Return the whole report."""
    report = family.measure(args)
    report["bars"] = family.bars(report)
    return report


# Files


def add_file_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE, quartiles and machine included")
    add_drawing_options(parser)


def add_drawing_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write one page with interactive plots and all tables to FILE"
    )
    parser.add_argument("--png", type=Path, metavar="FOLDER", help="write a picture of each chart to FOLDER")
    parser.add_argument("--markdown", type=Path, metavar="FOLDER", help="write a page of tables for each family to FOLDER")


def can_write(args: argparse.Namespace) -> bool:
    """Say what stands against writing the files, in one line: before an hour of measuring and not after it."""
    problems = [
        f"{name} is not installed (pip install 'fastframe[bench]')"
        for option, name in DRAWS_WITH.items()
        if getattr(args, option) and importlib.util.find_spec(name) is None
    ]
    try:
        problems += [problem for file in (args.json, args.html) if file and (problem := against_file(file))]
        problems += [
            f"{path} is no folder" for path in (args.png, args.markdown) if path and path.exists() and not path.is_dir()
        ]
    except PermissionError as error:  # of a folder that may not even be looked into
        problems.append(f"{error.filename}: {error.strerror}")
    if problems:
        say(f"fastframe bench: {problems[0]}")
    return not problems


def save(args: argparse.Namespace, results: Sequence[tuple[Family, Report]]) -> int:
    """Write the files that were asked for; return the exit status, and say in one line for each what cannot be written."""
    reports = [report for _, report in results]
    writers: dict[str, Callable[[Path], None]] = {
        "json": lambda path: write_json(path, reports),
        "markdown": lambda path: write_pages(path, results),
        "html": lambda path: write_page(path, results),
        "png": lambda path: write_pictures(path, results),
    }
    status = 0
    for option, write in writers.items():
        if path := getattr(args, option):
            try:
                write(path)
            except OSError as error:
                say(f"fastframe bench: --{option} {path}: {error.strerror}")
                status = 1
    return status


def write_json(path: Path, reports: Sequence[Report]) -> None:
    write_whole(path, json.dumps({"fastframe_bench": FILE_FORMAT, "reports": reports}, indent=1) + "\n")


def write_pages(folder: Path, results: Sequence[tuple[Family, Report]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for family, report in results:
        write_whole(folder / f"benchmarks-{family.name}.md", markdown(family, report))


def write_page(path: Path, results: Sequence[tuple[Family, Report]]) -> None:
    from .page import page_html  # noqa: PLC0415  which needs what `about` says

    write_whole(path, page_html(results))


def write_pictures(folder: Path, results: Sequence[tuple[Family, Report]]) -> None:
    from .looks import drawable  # noqa: PLC0415
    from .pictures import draw  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    for family, report in results:
        for chart in drawable(family.charts(report)):
            draw(chart, report, folder / f"{family.name}-{chart.name}.png")


def read_json(path: Path) -> list[Report]:
    """Return the reports in a file; raise `BenchError` if it is none of ours or cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["fastframe_bench"] != FILE_FORMAT:
            raise BenchError(f"{path} has format {content['fastframe_bench']}, this is {FILE_FORMAT}: measure again")
        reports: list[Report] = content["reports"]
        names = [report["benchmark"] for report in reports]
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        names = []
    if not names or not all(isinstance(name, str) for name in names):
        raise BenchError(f"{path} has no report that fastframe bench --json wrote") from None
    return reports


@contextlib.contextmanager
def of_files() -> Iterator[None]:
    """Have it be a `BenchError` if reports of files lack something, however deep: another version wrote them, or nobody."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, StopIteration) as error:
        reason = f"{type(error).__name__}: {error}"
        raise BenchError(f"the files have not what this version of fastframe bench --json writes ({reason})") from None


# Tables, on the terminal and in Markdown


def about(report: Report) -> list[tuple[str, str]]:
    """Return what the figures depend on, by name."""
    everything = [*report["machine"].items(), *report["versions"].items(), *report["settings"].items()]
    return [(name, str(value)) for name, value in everything if value != ""]


def remarks(report: Report) -> list[str]:
    """Return who is missing, why nothing is judged, and what makes the figures unsteady here and could be helped."""
    lines = [f"left out: {reason}" for reason in report["left_out"]]
    lines += [reason] if (reason := not_judged(report)) else []
    stumbles = report["machine"].get("memcpy_stumble", 1) > MOST_STUMBLE
    if stumbles and STEADY_MEMCPY not in report["settings"].get("environment", ""):  # in which the servers run
        lines.append(f"payloads of 4 KiB and more are partly luck here; {STEADY_MEMCPY} in the environment makes them steady")
    return lines


def print_report(family: Family, report: Report) -> None:
    print(f"\n{family.name}: {family.summary}\n")
    for key, value in about(report):
        print(f"{key + ':':<19}{value}")
    for line in remarks(report):
        print(line)
    for title, heads, rows in family.tables(report):
        print_table(heads, rows, title)
    print_verdicts(report)
    sys.stdout.flush()


def markdown(family: Family, report: Report) -> str:
    """Return the whole report as a page of the documentation."""
    parts = [f"# Benchmarks: {family.summary}", f"Made by `fastframe bench {family.name} --markdown`. {family.introduction}"]
    parts.append(table_text(["", ""], [[name, value] for name, value in about(report)]))
    parts.append("\n".join(f"- {line}" for line in remarks(report)))
    for title, heads, rows in family.tables(report):
        parts += [f"## {title[0].upper()}{title[1:]}", table_text(heads, rows)]
    if report["bars"]:
        parts += ["## The bars", bars_table(report)]
    if report["does"]:
        parts += ["## Who takes part", table_text(["", ""], [[f"*{name}*", does] for name, does in report["does"].items()])]
    return "\n\n".join(part for part in parts if part) + "\n"
