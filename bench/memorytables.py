"""The report on memory to read: a row for each decoder and its states, for each server what is idle and the echo beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .echotables import us_text
from .report import deviation
from .tables import ratio_text

if TYPE_CHECKING:
    from .family import Report, Table

Row = dict[str, Any]

MEMORY_INTRODUCTION = (
    "A decoder's memory is what its process has written to with thousands of them, less without any, in a process for each"
    " contender and repetition. *16 MiB announced*: it holds the header of such a frame, of which nothing more has come. *after"
    " 1 MiB*: such a frame has gone through; *a frame later*: and a small one behind it. A connection's memory is the server's"
    " own (Pss) with the idle connections less without them, each after its first frame; 250 that are not counted take"
    " the room that the interpreter has lying about. Two servers echo frames of 64 B one at a time, in turns: one with idle"
    " connections, one without any. That is done in rounds, with new servers in each. A figure is the median of the turns, of"
    " memory that of the rounds, ± half of what lies between the quartiles; a ratio is taken turn by turn."
)


def memory_tables(report: Report) -> list[Table]:
    return [*decoder_tables(report["decoders"]), *connection_tables(report)]


def decoder_tables(found: list[Row]) -> list[Table]:
    """Return the one table, if there is anything to show."""
    if not found:
        return []
    states = list(dict.fromkeys(row["state"] for row in found))
    names = dict.fromkeys(row["contender"] for row in found)
    cells = {(row["contender"], row["state"]): bytes_cell(row) for row in found}
    lines = [[name, *(cells[name, state] for state in states)] for name in names]
    return [("bytes a decoder", ["decoder", *states], lines)]


def bytes_cell(row: Row) -> str:
    return f"{row['bytes']['median']:,.0f} {deviation(row['bytes'])}".strip()


def connection_tables(report: Report) -> list[Table]:
    """Return what a connection takes, and the echo beside idle ones, if there is anything to show."""
    found = report["connections"]
    if not found:
        return []
    idle = f"{found[0]['count']:,} idle connections, {'over TLS' if report['settings']['tls'] == 'yes' else 'plain'}"
    size = [[row["contender"], kib_text(row["bytes"])] for row in found]
    heads = [part + what for part in ("median", "99 %", "processor") for what in ("", " with", " times")]
    echo = [
        [row["contender"], *(cell for kind in ("median", "slow", "cpu") for cell in echo_cells(row[kind]))] for row in found
    ]
    return [
        (f"{idle}: memory of the server", ["server", "KiB each"], size),
        (f"{idle}: an echo without and with them, us", ["server", *heads], echo),
    ]


def kib_text(size: Row) -> str:
    return f"{size['median'] / 1024:.2f} {deviation(size)}".strip()


def echo_cells(kind: Row) -> list[str]:
    return [*(us_text(kind[which]["median"]) for which in ("without", "with")), ratio_text(kind["ratio"]["median"])]
