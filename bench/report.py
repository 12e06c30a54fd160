"""What is said and printed: progress on stderr, tables on the terminal, sizes and spreads as text.

The base install prints plain text; with rich the table is drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """How fast one way was with frames of `size` bytes; `whole` tells whether the whole file went through."""

    size: int
    megabytes_per_second: float
    frames_per_second: float
    whole: bool


def size_text(size: int) -> str:
    """Return `64 B`, `16 KiB`, `1 MiB`; a size that is no whole number of those stays in bytes."""
    for unit, scale in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % scale == 0:
            return f"{size // scale} {unit}"
    return f"{size} B"


def deviation(spread: Mapping[str, float]) -> str:
    """Return plus and minus half of what lies between the quartiles of a spread in a report, as a share of its median."""
    return f"±{50 * (spread['upper'] - spread['lower']) / spread['median']:.0f} %" if spread["median"] > 0 else ""


def print_rates(rates: Mapping[str, Sequence[Rate]], title: str) -> None:
    """Print a table of MB/s and frames/s to stdout: a row for each size, two columns for each way."""
    heads = ["frame", *(f"{way} {unit}" for way in rates for unit in ("MB/s", "frames/s"))]
    rows = [[size_text(same_size[0].size), *_cells(same_size)] for same_size in zip(*rates.values(), strict=True)]
    print_table(heads, rows, title)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    """Print a table, drawn on a terminal with rich; a head is broken at its first space there."""
    try:
        from rich.console import Console  # noqa: PLC0415  an extra
        from rich.table import Table  # noqa: PLC0415
    except ModuleNotFoundError:
        print_plain(heads, rows, title)
        return
    if not sys.stdout.isatty():
        print_plain(heads, rows, title)
        return
    table = Table(title=title, title_justify="left")
    for head in heads:
        table.add_column(head.replace(" ", "\n", 1), justify="right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def print_plain(heads: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    """Print columns aligned to the right, a blank line around them."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    print(f"\n{title}")
    for row in (heads, *rows):
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    print()


def _cells(rates: Sequence[Rate]) -> list[str]:
    cells: list[str] = []
    for rate in rates:
        cells += f"{rate.megabytes_per_second:,.0f}{'' if rate.whole else '*'}", f"{rate.frames_per_second:,.0f}"
    return cells


def say(text: str) -> None:
    """Say what goes on, or wrong, on stderr."""
    print(text, file=sys.stderr, flush=True)
