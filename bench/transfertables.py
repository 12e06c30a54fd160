"""The report on transfers to read: for each way of a file a table of everybody, of chunk sizes, and of digests; its charts.

Speed is in GB/s (10^9 bytes), time on the processor in seconds a GiB, memory in MiB. A ratio is of times, so
that 2.00x is half as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from .charts import Axis, Bar, Bars, Chart, Line, Lines
from .family import Figure
from .measure import Spread
from .report import deviation, size_text
from .tables import ratio_text

if TYPE_CHECKING:
    from .family import Table

Row = dict[str, Any]
Way = tuple[str, str]

GIB: Final = 1 << 30
INTRODUCTION: Final = (
    "A file in memory (tmpfs) goes from the server to the client (get) or back"
    " (put), both processes of their own on one machine, over TCP on loopback; the copy is a new file in memory, or is"
    " forgotten. Contenders take turns; a figure is the median of the turns ± half of what lies between the quartiles, the"
    " time to connect not included. A ratio is of times and taken turn by turn, so that 2.00x is half as fast. *sendfile* is"
    " the base: `os.sendfile` at one end, `recv_into` 1 MiB of reused memory at the other. Processor time is that of all"
    " processes and threads of an end; the memory is the most that was resident in a turn, Python itself included. SFTP"
    " encrypts, the others do not."
)
NOTE: Final = "More is better. Contenders take turns; medians of the turns, and the quartiles."
ENCRYPTED: Final = " SFTP (asyncssh, openssh) encrypts, the others do not."
KNEES: Final = (
    " Small chunks pay for system calls, one or two a chunk at each end, and for the interpreter between them; from the knee on"
    " copying is all that is left."
)
ENDS: Final = ("server", "client")


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


def by_way(report: Row, table: str) -> list[tuple[Way, list[Row]]]:
    """Return the rows of a table for each direction and sink that it has."""
    found: dict[Way, list[Row]] = {}
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
        line += [cpu_text(row, row[end]["cpu_ns"]) for end in ENDS]
        lines.append([*line, *(f"{row[end]['peak'] / (1 << 20):.0f}" for end in ENDS)])
    return heads, lines


def by_chunk(rows: list[Row], cell: Callable[[Row], str]) -> tuple[list[str], list[list[str]]]:
    labels = list(dict.fromkeys(row["label"] for row in rows))
    chunks: dict[int, dict[str, Row]] = {}
    for row in rows:
        chunks.setdefault(row["chunk"], {})[row["label"]] = row
    lines = [
        [size_text(chunk), *(cell(found[label]) if label in found else "" for label in labels)]
        for chunk, found in chunks.items()
    ]
    return ["chunk", *labels], lines


def gb_s(row: Row) -> Spread:
    """Return bytes a nanosecond, which is the same."""
    return Spread(*(row["bytes"] / row["ns"][quartile] for quartile in ("upper", "median", "lower")))


def speed(row: Row) -> str:
    found = gb_s(row)
    return f"{found.median:.2f} {deviation(found._asdict())}"


def speed_and_ratio(row: Row) -> str:
    first = next(iter(row["ratio"]))
    ratio = "" if first == row["label"] else f", {ratio_text(row['ratio'][first]['median'])}"
    return f"{gb_s(row).median:.2f}{ratio}"


def both_ends(row: Row) -> str:
    return cpu_text(row, row["cpu_ns"])


def cpu_text(row: Row, cpu_ns: Row) -> str:
    return f"{a_gib(row, cpu_ns).median / 1e9:.2f}"


def a_gib(row: Row, ns: Row) -> Spread:
    """Return what a GiB would take, of what the whole file does."""
    return Spread(*(each * GIB / row["bytes"] for each in ns.values()))


# To compare, and to draw


def transfer_figures(report: Row) -> Iterator[Figure]:
    """Yield for each row how long it took, and what both ends used of processors."""
    for row in report["transfer"]:
        name = f"{size_text(row['bytes'])}, {cell_text(row)}, {row['label']}"
        ratio, cpu_ratio = (Spread(**next(iter(row[key].values()))) for key in ("ratio", "cpu_ratio"))
        yield Figure(name, "ns a GiB", a_gib(row, row["ns"]), ratio, row["contender"])
        cpu = a_gib(row, row["cpu_ns"])
        yield Figure(f"{name}, processors", "ns of both ends' processors a GiB", cpu, cpu_ratio, row["contender"])


def cell_text(row: Row) -> str:
    """Return what tells a row from those of the same label."""
    how = {"everybody": "", "digests": ", among digests", "chunks": f", chunks of {size_text(row['chunk'])}"}
    return way_text(row["direction"], row["sink"]) + how[row["table"]]


def transfer_charts(report: Row) -> list[Chart]:
    """Return everybody, those that can be told by the size of a chunk, and ours by digest."""
    axis = Axis("GB/s")
    found: list[Chart] = []
    for name, table, title, note in (("everybody", "everybody", "", ENCRYPTED), ("digest", "digests", ", by digest", "")):
        if panels := {way_text(*way): bars(report, rows) for way, rows in by_way(report, table)}:
            found.append(Bars(name, f"A file from one process to another{title}", axis, panels, NOTE + note))
    if sweeps := {way_text(*way): lines(report, rows) for way, rows in by_way(report, "chunks")}:
        title = "A file from one process to another, by the size of a chunk"
        found.insert(1, Lines("chunk", title, Axis("bytes in a chunk", "sizes"), axis, sweeps, NOTE + KNEES))
    return found


def bars(report: Row, rows: list[Row]) -> list[Bar]:
    return [Bar(row["label"], report["contenders"][row["contender"]], gb_s(row)) for row in rows]


def lines(report: Row, rows: list[Row]) -> list[Line]:
    own: dict[str, list[Row]] = {}
    for row in rows:
        own.setdefault(row["label"], []).append(row)
    kinds = {row["label"]: report["contenders"][row["contender"]] for row in rows}
    return [Line(label, kinds[label], [row["chunk"] for row in each], list(map(gb_s, each))) for label, each in own.items()]
