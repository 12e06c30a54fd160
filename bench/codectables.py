"""What is shown of the report on the codec: tables, the figures that two runs are compared by, charts.

A table is of one size of a chunk, and has a row for each contender and a column for each size of a payload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .bars import cell_text
from .charts import Axis, Bar, Bars, Chart, Line, Lines
from .family import Figure
from .measure import Spread
from .report import size_text
from .tables import ratio_text, spread_text

if TYPE_CHECKING:
    from .family import Table

Row = dict[str, Any]
KIB, MIB = 1 << 10, 1 << 20
CHART_PAYLOADS: Final = (16, 64, KIB, 16 * KIB, MIB)
CHART_CHUNK: Final = 64 * KIB
WORDS: Final = {"decode": "decode", "batch": "feed_batch, no object made of a payload", "encode": "encode"}
CODEC_INTRODUCTION: Final = (
    "Contenders take turns in one process; a figure is the median of the turns ± half of what lies between the quartiles, on"
    " the processor's clock. A ratio is taken turn by turn. *limit* is a loop in C that makes the objects and checks nothing,"
    " *by chunk* the same called once a chunk where a frame is longer than one; *walk* makes no objects. Peers get the same"
    " payloads in their own wire format, cut into the same chunks."
)


def codec_tables(report: Row) -> list[Table]:
    tables: list[Table] = []
    for table in WORDS:
        for where, rows in groups(report, table).items():
            tables += [ns_table(report, where, rows), ratio_table(report, where, rows)]
    return [*tables, *linear_tables(report)]


def groups(report: Row, table: str) -> dict[str, list[Row]]:
    """Return the rows of a table by what they have in common but the payload: how it was cut, or how many there were a call."""
    found: dict[str, list[Row]] = {}
    for row in report[table]:
        found.setdefault(f"{WORDS[table]}, {cut_text(row)}", []).append(row)
    return found


def cut_text(row: Row) -> str:
    return f"in chunks of {size_text(row['chunk'])}" if "chunk" in row else f"{row['batch']} a call"


def ns_table(report: Row, where: str, rows: list[Row]) -> Table:
    sizes, cells = by_payload(report, rows)
    lines = [[name, *(spread_text(own[size]["ns"]) if size in own else "" for size in sizes)] for name, own in cells.items()]
    return f"{where}: ns a frame", ["", *map(size_text, sizes)], lines


def ratio_table(report: Row, where: str, rows: list[Row]) -> Table:
    """Return what each of ours takes, times what each of the others does."""
    sizes, cells = by_payload(report, rows)
    lines = []
    for ours in (name for name in cells if report["contenders"][name] == "ours"):
        for other in (name for name in cells if name != ours):
            found = [cells[ours][size]["ratio"].get(other) for size in sizes]
            lines.append([f"{ours} / {other}", *(ratio_text(ratio["median"]) if ratio else "" for ratio in found)])
    return f"{where}: times what the others take", ["", *map(size_text, sizes)], lines


def by_payload(report: Row, rows: list[Row]) -> tuple[list[int], dict[str, dict[int, Row]]]:
    """Return all sizes of payloads, and each contender's rows by them."""
    cells: dict[str, dict[int, Row]] = {name: {} for name in report["contenders"]}
    for row in rows:
        cells[row["contender"]][row["payload"]] = row
    return sorted({row["payload"] for row in rows}), {name: own for name, own in cells.items() if own}


def linear_tables(report: Row) -> Iterator[Table]:
    if report["linear"]:
        heads = ["", "frames", "MiB", "chunks", "us", "times half of it"]
        yield "twice the bytes", heads, [linear_line(row) for row in report["linear"]]


def linear_line(row: Row) -> list[str]:
    spread = {key: ns / 1000 for key, ns in row["ns"].items()}
    return [
        f"{row['contender']} {row['way']}",
        row["shape"],
        f"{row['bytes'] / MIB:.0f}",
        f"{row['chunks']:,}",
        spread_text(spread),
        ratio_text(row["ratio"]["half"]["median"]),
    ]


def codec_figures(report: Row) -> Iterator[Figure]:
    """Yield nanoseconds a frame, and what a stream takes; the ratio of that one is to half of its bytes."""
    for table, word in (("decode", "decode"), ("batch", "feed_batch"), ("encode", "encode")):
        for row in report[table]:
            ratio = row["ratio"].get(report[table][0]["contender"])
            name = f"{word}, {cell_text(row)}, {row['contender']}"
            yield Figure(name, "ns a frame", ns_of(row), Spread(**ratio) if ratio else None, row["contender"])
    for row in report["linear"]:
        name = f"{row['bytes'] / MIB:.0f} MiB, frames {row['shape']}, {row['contender']} {row['way']}"
        ms = Spread(*(ns / 1e6 for ns in row["ns"].values()))
        yield Figure(name, "ms", ms, Spread(**row["ratio"]["half"]), row["contender"])


def codec_charts(report: Row) -> list[Chart]:
    """Return what a frame costs, the same times the limit, and what objects cost; in chunks of one size, where it is cut."""
    decode, batch = one_chunk(report["decode"]), one_chunk(report["batch"])
    where = cut_text(decode[0])
    by_size = {size: [row for row in decode if row["payload"] == size] for size in CHART_PAYLOADS}
    bars = {
        size_text(size): [Bar(row["contender"], report["contenders"][row["contender"]], ns_of(row)) for row in rows]
        for size, rows in by_size.items()
        if rows
    }
    base = "the limit" if report["contenders"][decode[0]["contender"]] == "limit" else decode[0]["contender"]
    panels = {f"decode, {where}": decode} | groups(report, "encode")
    times = {panel: lines(report, rows, partial(times_of, rows[0]["contender"])) for panel, rows in panels.items()}
    objects = {"feed": lines(report, decode, ns_of, "limit", "ours"), "feed_batch": lines(report, batch, ns_of)}
    payload, ns = Axis("payload", "sizes"), Axis("ns a frame", "log")
    return [
        Bars("decode", f"What decoding a frame costs, {where}", ns, bars, DECODE_NOTE),
        Lines("times", f"Decoding and encoding, times {base}", payload, Axis(f"times {base}", "log"), times, TIMES_NOTE),
        Lines("objects", f"What objects cost: feed beside feed_batch, {where}", payload, ns, objects, OBJECTS_NOTE),
    ]


def one_chunk(rows: list[Row]) -> list[Row]:
    """Return the rows of one size of a chunk, `CHART_CHUNK` if that was measured."""
    sizes = [row["chunk"] for row in rows]
    size = CHART_CHUNK if CHART_CHUNK in sizes else sizes[-1]
    return [row for row in rows if row["chunk"] == size]


def lines(report: Row, rows: list[Row], value_of: Callable[[Row], Spread], *kinds: str) -> list[Line]:
    """Return a line for each contender of these kinds, of all without any."""
    found = []
    for name, own in by_payload(report, rows)[1].items():
        kind = report["contenders"][name]
        if kind in (kinds or (kind,)):
            found.append(Line(name, kind, sorted(own), [value_of(own[size]) for size in sorted(own)]))
    return found


def ns_of(row: Row) -> Spread:
    return Spread(**row["ns"])


def times_of(base: str, row: Row) -> Spread:
    return Spread(**row["ratio"][base])


TURNS: Final = "Contenders take turns in one process; medians of the turns, and the quartiles."
LIMIT: Final = "The limit is a loop in C that makes the objects and checks nothing."
DECODE_NOTE: Final = f"Less is better. {LIMIT} {TURNS}"
TIMES_NOTE: Final = f"Less is better; a ratio is that to the same turn. {LIMIT} {TURNS}"
OBJECTS_NOTE: Final = (
    "Less is better. feed makes an object of each payload; feed_batch makes none, and copies what does not lie in one chunk;"
    f" the walk just goes from length to length. {TURNS}"
)
