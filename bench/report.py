"""What a measurement looks like: a table for the terminal, a picture, files of JSON and Markdown.

The base install prints plain text; with rich the table is drawn, with matplotlib there is a picture. Colours are from the
palette of Okabe and Ito, which colour-blind people can tell apart.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

COLOURS: Final = {"compiled": "#0072B2", "pure": "#E69F00", "readexactly": "#D55E00"}
MARKERS: Final = {"compiled": "o", "pure": "s", "readexactly": "^"}


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


def draw_rates(rates: Mapping[str, Sequence[Rate]], path: str, title: str, note: str) -> None:
    """Save throughput by frame size as a picture; raise ModuleNotFoundError without matplotlib, OSError if it cannot."""
    import matplotlib as mpl  # noqa: PLC0415  an extra, and 0.3 s of import

    mpl.use("Agg")  # no window, no display needed
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    for axis, unit, label in (
        (axes[0], "megabytes_per_second", "MB/s, each way"),
        (axes[1], "frames_per_second", "frames/s, each way"),
    ):
        for way, series in rates.items():
            values = [getattr(rate, unit) for rate in series]
            sizes = [rate.size for rate in series]
            axis.plot(sizes, values, marker=MARKERS[way], color=COLOURS[way], label=way, linewidth=2, markersize=6)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.set_xticks(sizes, [size_text(size) for size in sizes], rotation=40, ha="right")
        axis.set_ylabel(label)
        axis.set_xlabel("payload of a frame")
        axis.grid(visible=True, which="major", alpha=0.35)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    figure.suptitle(title)
    figure.supxlabel(note, fontsize=8, color="#555555")
    figure.savefig(path, dpi=140)
    plt.close(figure)


def say(text: str) -> None:
    """Say what goes on, or wrong, on stderr."""
    print(text, file=sys.stderr, flush=True)


def add_file_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE, quartiles and machine included")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to FILE")


def save(args: argparse.Namespace, report: dict[str, Any], markdown: Callable[[dict[str, Any]], str]) -> int:
    """Write the files that were asked for; return the exit status, and say it in one line if that cannot be done."""
    try:
        if args.json:
            args.json.write_text(json.dumps(report, indent=1) + "\n")
        if args.markdown:
            args.markdown.write_text(markdown(report), encoding="utf-8")
    except OSError as error:
        say(f"fastframe bench {report['benchmark']}: {error}")
        return 1
    return 0
