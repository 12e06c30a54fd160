"""The report on commands to read: a table for one after another, one for several at once, one for output; its charts.

Times are in milliseconds, output is in MB/s (10^6 bytes), and what that costs the processor in seconds a GiB. A ratio is of
times, so that 2.00x takes twice as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from .bars import LEAST_COMMANDS
from .charts import Axis, Bar, Bars, Chart
from .family import Figure
from .measure import Spread
from .report import deviation, size_text
from .tables import ratio_text

if TYPE_CHECKING:
    from .family import Table

Row = dict[str, Any]

INTRODUCTION: Final = (
    "Each contender runs `/bin/true`, and knows its status and that nothing came on"
    " stdout and stderr; then a program that prints zeros, which are counted and forgotten. Each has a client process of its"
    " own; servers are other processes on the same machine, reached over TCP on loopback. Contenders take turns; a figure is"
    " the median of the turns ± half of what lies between the quartiles, and 99 % is of all runs of all turns. A ratio is of"
    " times and taken turn by turn, so that 2.00x takes twice as long. Processor time is that of client, servers and commands"
    " together. *posix_spawn* is the base: `os.posix_spawn` and"
    " `waitpid`, with nobody who hears what the program says; *pipes* is the same with two pipes that are read to their end."
    " SSH encrypts; only *openssh* and ours ask who it is, and only ours limits what may be run and what that may do."
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
        return [f"{mb_s(row).median:,.0f} {deviation(row['ns'])}", f"{cpu_ns / 1e9 * (1 << 30) / row['bytes']:.2f}"]
    if row["table"] == "one":
        return [f"{ns / 1e6:.2f} {deviation(row['ns'])}", f"{row['slow'] / 1e6:.2f}", f"{cpu_ns / 1e6:.2f}"]
    return [f"{a_second(row).median:,.0f} {deviation(row['ns'])}", f"{row['slow'] / 1e6:.1f}", f"{cpu_ns / 1e6:.2f}"]


# To compare, and to draw


def exec_figures(report: Row) -> Iterator[Figure]:
    """Yield for each row what a run took, and what all of it used of processors."""
    for row in report["exec"]:
        name = f"{title(row)}, {row['contender']}"
        ratio = Spread(**next(iter(row["ratio"].values())))
        yield Figure(name, "ns a run", Spread(**row["ns"]), ratio, row["contender"])
        yield Figure(f"{name}, processors", "ns of all processors a run", Spread(**row["cpu_ns"]), None, row["contender"])


def exec_charts(report: Row) -> list[Chart]:
    """Return milliseconds of one after another, how many there are a second at once, and how fast output comes."""
    parts = (
        ("one", "one-after-another", Axis("ms a command"), ms, "Less is better."),
        ("several", "at-once", Axis("commands/s"), a_second, "More is better."),
        ("output", "output", Axis("MB/s"), mb_s, "More is better."),
    )
    found: list[Chart] = []
    for table, name, axis, value, better in parts:
        if rows := [row for row in report["exec"] if row["table"] == table]:
            bars = [Bar(row["contender"], report["contenders"][row["contender"]], value(row)) for row in rows]
            marks = {f"{own}: {least}/s": least for own, least in LEAST_COMMANDS.items() if table == "several"}
            found.append(Bars(name, f"A command: {title(rows[0])}", axis, {"": bars}, f"{better} {NOTE}", marks))
    return found


def ms(row: Row) -> Spread:
    return Spread(*(ns / 1e6 for ns in row["ns"].values()))


def a_second(row: Row) -> Spread:
    return rate(row, 1e9)


def mb_s(row: Row) -> Spread:
    return rate(row, row["bytes"] * 1e3)


def rate(row: Row, work: float) -> Spread:
    """Return `work` by the time that it took: the longest is the lowest rate."""
    return Spread(*(work / row["ns"][quartile] for quartile in ("upper", "median", "lower")))


NOTE: Final = "Contenders take turns, each with a client process of its own; medians of turns, and the quartiles. SSH encrypts."
