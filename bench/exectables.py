"""The report on commands to read: a table for one after another, one for several at once, one for output.

Times are in milliseconds, output is in MB/s (10^6 bytes), and what that costs the processor in seconds a GiB. A ratio is of
times, so that 2.00x takes twice as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .echotables import page, print_report
from .report import size_text
from .tables import ratio_text

if TYPE_CHECKING:
    from .family import Table

Row = dict[str, Any]

INTRODUCTION = (
    "Made by `fastframe bench exec --markdown`. Each contender runs `/bin/true`, and knows its status and that nothing came on"
    " stdout and stderr; then a program that prints zeros, which are counted and forgotten. Each has a client process of its"
    " own; servers are other processes on the same machine, reached over TCP on loopback. Contenders take turns; a figure is"
    " the median of the turns ± half of what lies between the quartiles, and 99 % is of all runs of all turns. A ratio is of"
    " times and taken turn by turn, so that 2.00x takes twice as long. Processor time is that of client, servers and commands"
    " together. *posix_spawn* is the base: `os.posix_spawn` and"
    " `waitpid`, with nobody who hears what the program says; *pipes* is the same with two pipes that are read to their end."
)


def exec_tables(report: Row) -> list[Table]:
    found: list[Table] = []
    for table in dict.fromkeys(row["table"] for row in report["exec"]):
        rows = [row for row in report["exec"] if row["table"] == table]
        bases = list(rows[0]["ratio"])
        heads = ["", *HEADS[table], *(f"times {base}" for base in bases)]
        lines = [[row["contender"], *cells(row), *(ratio_text(row["ratio"][base]["median"]) for base in bases)] for row in rows]
        found.append((title(rows[0]), heads, lines))
    return found


def title(row: Row) -> str:
    if row["table"] == "output":
        return f"{size_text(row['bytes'])} of output"
    return "true, one after another" if row["table"] == "one" else f"true, {row['at_once']} at once"


HEADS: Final = {
    "one": ["ms", "99 %", "processor ms"],
    "several": ["a second", "99 % ms", "processor ms"],
    "output": ["MB/s", "processor s/GiB"],
}


def cells(row: Row) -> list[str]:
    ns, cpu_ns = row["ns"]["median"], row["cpu_ns"]["median"]
    if row["table"] == "output":
        return [f"{row['bytes'] * 1e3 / ns:,.0f} {deviation(row)}", f"{cpu_ns / 1e9 * (1 << 30) / row['bytes']:.2f}"]
    if row["table"] == "one":
        return [f"{ns / 1e6:.2f} {deviation(row)}", f"{row['slow'] / 1e6:.2f}", f"{cpu_ns / 1e6:.2f}"]
    return [f"{1e9 / ns:,.0f} {deviation(row)}", f"{row['slow'] / 1e6:.1f}", f"{cpu_ns / 1e6:.2f}"]


def deviation(row: Row) -> str:
    ns = row["ns"]
    return f"±{50 * (ns['upper'] - ns['lower']) / ns['median']:.0f} %"


def print_exec(report: Row) -> None:
    print_report(report, exec_tables(report))


def exec_markdown(report: Row) -> str:
    """Return the whole report as a page of the documentation."""
    return page(report, "# Benchmarks: commands", INTRODUCTION, exec_tables(report))
