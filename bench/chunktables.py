"""The sweeps of chunk sizes to read and to look at: where the lines bend and why, then a row for each size of frames.

The spread of a row is the widest of its cells: plus and minus half of what lies between the quartiles of the turns, in percent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from .charts import Axis, Chart, Heat, Line, Lines
from .kneetables import SHOWN, facts_table, knees_table, of_reading, words_table
from .measure import Spread
from .report import size_text
from .tables import ns_text

if TYPE_CHECKING:
    from .family import Report, Table

CONTENTS: Final = {  # of the sweeps: what `ns` is
    "decode": "ns of the processor a frame",
    "echo": "ns of the server's processor a frame",
    "transfer": "ns a frame",
    "batch": "ns a frame",
}
RATES: Final = {
    "decode": "Decoding: GB/s of payload, of the processor's time",
    "echo": "Echo: GB of payload per second of the server's processor",
    "transfer": "Transfer: GB/s of payload",
}
READING: Final = RATES | {"transfer": "Transfer: GB of payload per second of the receiver's processor"}
READS: Final = Axis("bytes of a read", "sizes")

Row = dict[str, Any]


def chunk_tables(report: Report) -> list[Table]:
    tables = [knees_table(report), facts_table(report), words_table(report)]
    for sweep, title in RATES.items():
        for name, rows in by_contender(report[sweep]).items():
            tables.append(grid(f"{title}, {name}", rows, rate_text))
            if sweep != "transfer":
                tables.append(grid(f"{sweep}: {CONTENTS[sweep]}, {name}", rows, frame_text))
            else:
                tables.append(grid(f"transfer: processor seconds a GiB, sender + receiver, {name}", rows, cpu_text))
    for name, rows in by_contender(report["batch"]).items():
        tables.append(grid(f"small frames by {name}, so many in a call: ns a frame", rows, frame_text, "batch"))
    return [table for table in tables if table[2]]


def by_contender(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["contender"], []).append(row)
    return found


def grid(title: str, rows: Sequence[Row], text: Callable[[Row], str], column: str = "read") -> Table:
    """Return a table: sizes of frames downwards, sizes of reads across."""
    columns = sorted({row[column] for row in rows})
    heads = ["frame", *(size_text(size) if column == "read" else str(size) for size in columns), "spread"]
    lines = []
    for payload in sorted({row["payload"] for row in rows}):
        own = {row[column]: row for row in rows if row["payload"] == payload}
        cells = [text(own[size]) if size in own else "" for size in columns]
        lines.append([size_text(payload), *cells, f"±{max(map(percent, own.values())):.0f} %"])
    return title, heads, lines


def percent(row: Row) -> float:
    ns = row["ns"]
    return float(50 * (ns["upper"] - ns["lower"]) / ns["median"])


def rate(row: Row) -> float:
    """Return GB/s of payload."""
    return float(row["payload"] / row["ns"]["median"])


def rate_text(row: Row) -> str:
    return f"{rate(row):.3f}" if rate(row) < 0.1 else f"{rate(row):.2f}" if rate(row) < 10 else f"{rate(row):.1f}"


def frame_text(row: Row) -> str:
    return ns_text(row["ns"]["median"])


def cpu_text(row: Row) -> str:
    return " + ".join(f"{row[end]['median'] / row['payload'] * (1 << 30) / 1e9:.1f}" for end in ("sender_ns", "receiver_ns"))


# Charts


def chunk_charts(report: Report) -> list[Chart]:
    """Return for each sweep the field of all sizes, and lines over the size of reads for some sizes of frames."""
    charts: list[Chart] = []
    for sweep, title in RATES.items():
        if report[sweep]:
            charts.append(field_chart(sweep, title, by_contender(report[sweep])))
            charts.append(lines_chart(sweep, READING[sweep], by_contender(of_reading(report, sweep))))
    return charts


def field_chart(sweep: str, title: str, ways: dict[str, list[Row]]) -> Heat:
    everything = [row for rows in ways.values() for row in rows]
    columns = sorted({row["read"] for row in everything})
    payloads = sorted({row["payload"] for row in everything})
    whole = {name: rows for name, rows in ways.items() if {row["payload"] for row in rows} == set(payloads)}
    fields = {name: field(rows, payloads, columns) for name, rows in whole.items()}
    return Heat(
        f"{sweep}-field", title, READS, Axis("payload of a frame", "sizes"), columns, payloads, "GB/s", fields, FIELD_NOTE
    )


def lines_chart(sweep: str, title: str, ways: dict[str, list[Row]]) -> Lines:
    panels = {name: [line(payload, rows) for payload in SHOWN] for name, rows in ways.items()}
    panels = {name: [each for each in lines if each.x] for name, lines in panels.items()}
    return Lines(f"{sweep}-reads", title, READS, Axis("GB/s", "log"), panels, LINES_NOTE)


def field(rows: Sequence[Row], payloads: Sequence[int], columns: Sequence[int]) -> list[list[float | None]]:
    found = {(row["payload"], row["read"]): rate(row) for row in rows}
    return [[found.get((payload, read)) for read in columns] for payload in payloads]


def line(payload: int, rows: Sequence[Row]) -> Line:
    own = [row for row in rows if row["payload"] == payload]
    rates = [Spread(payload / row["ns"]["upper"], rate(row), payload / row["ns"]["lower"]) for row in own]
    return Line(f"frames of {size_text(payload)}", "ours", [row["read"] for row in own], rates)


FIELD_NOTE: Final = "More is better. A row is a size of frames, a column is what one read may bring. Empty: not measured."
LINES_NOTE: Final = "More is better. Where a line becomes flat, larger reads gain nothing: the tables say why."
