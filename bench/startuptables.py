"""The report on starting to read: a row for each program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .report import deviation
from .tables import ratio_text

if TYPE_CHECKING:
    from .family import Report, Table

Row = dict[str, Any]

STARTUP_INTRODUCTION: Final = (
    "Each program is a fresh process in each turn, all on one core, with compiled modules at hand: `python -P -S`, so that what"
    " site-packages runs at every start has no part in it. Processor time is user and system, as the kernel accounts for it. A"
    " figure is the median of the turns ± half of what lies between the quartiles; *over* is what a run took more than that of"
    " the bare interpreter in the same turn, *times* how many times that. *wall*: until it had ended, or said that it listens."
    " Modules and the most memory in use are of one run."
)
HEADS: Final = ("program", "processor ms", "ms over", "times", "wall ms", "wall over", "modules", "peak MiB")


def startup_tables(report: Report) -> list[Table]:
    return [("start-up", HEADS, [line(row) for row in report["startup"]])]


def line(row: Row) -> list[str]:
    processor, wall = row["processor"], row["wall"]
    peak = "" if row["peak"] is None else f"{row['peak'] / (1 << 20):.1f}"
    return [
        row["contender"],
        ms_cell(processor["ns"]),
        ms_text(processor["over"]["median"]),
        ratio_text(processor["ratio"]["median"]),
        ms_cell(wall["ns"]),
        ms_text(wall["over"]["median"]),
        "" if row["modules"] is None else str(row["modules"]),
        peak,
    ]


def ms_cell(spread: Row) -> str:
    return f"{ms_text(spread['median'])} {deviation(spread)}"


def ms_text(ns: float) -> str:
    return f"{ns / 1e6:.1f}"
