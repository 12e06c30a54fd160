"""The report on transfers to read: for each way of a file a table of everybody, of chunk sizes, and of digests.

Speed is in GB/s (10^9 bytes), time on the processor in seconds a GiB, memory in MiB. A ratio is of times, so
that 2.00x is half as fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .echotables import page, print_report
from .report import size_text
from .tables import ratio_text

if TYPE_CHECKING:
    from .family import Table

Row = dict[str, Any]

INTRODUCTION = (
    "Made by `fastframe bench transfer --markdown`. A file in memory (tmpfs) goes from the server to the client (get) or back"
    " (put), both processes of their own on one machine, over TCP on loopback; the copy is a new file in memory, or is"
    " forgotten. Contenders take turns; a figure is the median of the turns ± half of what lies between the quartiles, the"
    " time to connect not included. A ratio is of times and taken turn by turn, so that 2.00x is half as fast. *sendfile* is"
    " the base: `os.sendfile` at one end, `recv_into` 1 MiB of reused memory at the other. Processor time is that of all"
    " processes and threads of an end; the memory is the most that was resident in a turn, Python itself included. SFTP"
    " encrypts, the others do not."
)
ENDS = ("server", "client")


def transfer_tables(report: Row) -> list[Table]:
    found: list[Table] = []
    for title, table in (("", "everybody"), (", by digest", "digests")):
        found += [(way_text(*way) + title, *everybody(rows)) for way, rows in by_way(report, table)]
    for way, rows in by_way(report, "chunks"):
        title = f"{way_text(*way)}, by size of a chunk"
        found += [(f"{title}: GB/s, and times {rows[0]['label']}", *by_chunk(rows, speed_and_ratio))]
        found += [(f"{title}: processor time of both ends, s/GiB", *by_chunk(rows, both_ends))]
    return found


def way_text(direction: str, sink: str) -> str:
    return f"{direction} {'into a file' if sink == 'file' else 'and forget'}"


def by_way(report: Row, table: str) -> list[tuple[tuple[str, str], list[Row]]]:
    """Return the rows of a table for each direction and sink that it has."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in report["transfer"]:
        if row["table"] == table:
            found.setdefault((row["direction"], row["sink"]), []).append(row)
    return list(found.items())


def everybody(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    bases = list(rows[0]["ratio"])
    heads = ["", "GB/s", *(f"times {base}" for base in bases)]
    heads += [f"{end} {what}" for what in ("s/GiB", "MiB") for end in ENDS]
    lines = []
    for row in rows:
        line = [row["label"], speed(row), *(ratio_text(row["ratio"][base]["median"]) for base in bases)]
        line += [f"{row[end]['cpu_s_gib']['median']:.2f}" for end in ENDS]
        lines.append([*line, *(f"{row[end]['peak'] / (1 << 20):.0f}" for end in ENDS)])
    return heads, lines


def by_chunk(rows: list[Row], cell: Any) -> tuple[list[str], list[list[str]]]:
    labels = list(dict.fromkeys(row["label"] for row in rows))
    chunks: dict[int, dict[str, Row]] = {}
    for row in rows:
        chunks.setdefault(row["chunk"], {})[row["label"]] = row
    lines = [
        [size_text(chunk), *(cell(found[label]) if label in found else "" for label in labels)]
        for chunk, found in chunks.items()
    ]
    return ["chunk", *labels], lines


def speed(row: Row) -> str:
    gb_s = row["gb_s"]
    return f"{gb_s['median']:.2f} ±{50 * (gb_s['upper'] - gb_s['lower']) / gb_s['median']:.0f} %"


def speed_and_ratio(row: Row) -> str:
    first = next(iter(row["ratio"]))
    ratio = "" if first == row["label"] else f", {ratio_text(row['ratio'][first]['median'])}"
    return f"{row['gb_s']['median']:.2f}{ratio}"


def both_ends(row: Row) -> str:
    return f"{sum(row[end]['cpu_s_gib']['median'] for end in ENDS):.2f}"


def print_transfer(report: Row) -> None:
    print_report(report, transfer_tables(report))


def transfer_markdown(report: Row) -> str:
    """Return the whole report as a page of the documentation."""
    return page(report, "# Benchmarks: a file from one process to another", INTRODUCTION, transfer_tables(report))
