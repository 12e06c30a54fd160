"""What is said and printed: progress on stderr, tables on the terminal, sizes and spreads as text.

The base install prints plain text; with rich the table is drawn.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

GAP: Final = 2  # between two columns


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
    """Print a table, on a terminal in parts that it has room for, drawn if rich is there."""
    if not sys.stdout.isatty():
        print_plain(heads, rows, title)
        return
    drawn = importlib.util.find_spec("rich") is not None
    broken = [broken_head(head, own) for head, own in zip(heads, zip(*rows, strict=True), strict=True)] if drawn else heads
    room = shutil.get_terminal_size().columns
    for number, columns in enumerate(parts(widths(broken, rows), room)):
        part = [broken[column] for column in columns], [[row[column] for column in columns] for row in rows]
        (print_drawn if drawn else print_plain)(*part, f"{title}, continued" if number else title)


def broken_head(head: str, cells: Sequence[str]) -> str:
    """Return a head in two lines about as long, unless it is no longer than what stands below; a number keeps its unit."""
    breaks = [found.start() for found in re.finditer(r"(?<![0-9]) |(?<=[0-9]) (?=x[0-9])| (?<=% )", head)]
    at = min(breaks, key=lambda at: max(at, len(head) - at), default=0)
    return f"{head[:at]}\n{head[at + 1 :]}" if at and len(head) > max(map(len, cells), default=0) else head


def widths(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return how wide each column is; heads may have several lines."""
    return [max(len(line) for cell in column for line in cell.split("\n")) for column in zip(heads, *rows, strict=True)]


def parts(wide: Sequence[int], room: int) -> Iterator[list[int]]:
    """Yield the columns of each part of a table: the first, to know the rows by, and as many others as there is room for."""
    first = min(wide[0], room // 2)  # a longer text is broken
    columns, used = [0], first
    for column, width in enumerate(wide[1:], 1):
        if len(columns) > 1 and used + GAP + width > room:
            yield columns
            columns, used = [0], first
        columns.append(column)
        used += GAP + width
    yield columns


def print_drawn(heads: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    """Print a table with a line below its heads, the first column broken where it is too long; a blank line before it."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415  an extra
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left", no_wrap=number > 0, vertical="bottom")
    for row in rows:
        table.add_row(*row)
    print(f"\n{title}")
    sys.stdout.flush()
    Console(markup=False, emoji=False).print(table)  # what is in brackets is text here


def print_plain(heads: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    """Print columns, all but the first aligned to the right, a blank line before them."""
    wide = widths(heads, rows)
    print(f"\n{title}")
    for first, *others in (heads, *rows):
        cells = [first.ljust(wide[0]), *(cell.rjust(width) for cell, width in zip(others, wide[1:], strict=True))]
        print((" " * GAP).join(cells).rstrip())


def _cells(rates: Sequence[Rate]) -> list[str]:
    cells: list[str] = []
    for rate in rates:
        cells += f"{rate.megabytes_per_second:,.0f}{'' if rate.whole else '*'}", f"{rate.frames_per_second:,.0f}"
    return cells


def say(text: str) -> None:
    """Say what goes on, or wrong, on stderr."""
    print(text, file=sys.stderr, flush=True)
