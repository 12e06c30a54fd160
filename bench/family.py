"""A family of benchmarks: what each has to say of itself, so that all are asked, run, shown, saved and compared in one way.

    options -> measure(args) -> report (plain data, as in the JSON file) -> tables, figures, charts

A report says everything that its figures depend on; whatever is shown is made of the report alone, so that a file which was
saved can be drawn and compared later. Its keys, besides the rows that a family measures:

    benchmark    the family's name          quick       whether it was asked to be over soon
    machine      see `machine.py`           settings    what else the figures depend on, by name
    versions     of the packages            left_out    who has no part, and why, a line each
    contenders   their kinds, by name       does        what each does, a line each, by name
    bars         what was reached of what should be (`bars.py`)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .machine import machine

if TYPE_CHECKING:
    from .charts import Chart
    from .measure import Spread

Report = dict[str, Any]
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]  # title, heads, rows; the first column is text, the others figures


class Figure(NamedTuple):
    """One thing that was measured, of one contender in one cell.

    `name` is the same in every run and no other figure of the report has it: "decode, 64 B in chunks of 64 KiB, compiled".
    `ratio` is that to the base of the same turn, where there is one: what else the machine does slows both down. `contender`:
    who was measured, so that what changed by itself tells of the noise.
    """

    name: str
    unit: str  # "ns a frame"
    value: Spread
    ratio: Spread | None = None
    contender: str = ""
    better: Literal["less", "more"] = "less"


class Family(NamedTuple):
    """`name` is the word behind `fastframe bench`, `summary` is for the list of all, in a line.

    `add_options` adds those that it alone has, besides --quick and those for files. `measure` returns the report, without
    `bars`, and raises `BenchError` or OSError if nothing can be said; it tells on stderr how far it is.
    """

    name: str
    summary: str
    description: str
    example: str  # of a command line, behind "fastframe bench "
    introduction: str  # of the tables: how they were made and how to read them, for the page and the documentation
    add_options: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[argparse.Namespace], Report]
    bars: Callable[[Report], list[dict[str, Any]]]
    tables: Callable[[Report], list[Table]]
    figures: Callable[[Report], Iterator[Figure]]
    charts: Callable[[Report], list[Chart]]


def new_report(family: str, *, quick: bool, settings: Mapping[str, Any]) -> Report:
    """Return a report without contenders and results."""
    return {
        "benchmark": family,
        "quick": quick,
        "machine": machine(),
        "settings": dict(settings),
        "versions": {},
        "contenders": {},
        "does": {},
        "left_out": [],
    }
