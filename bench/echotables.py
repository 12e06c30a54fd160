"""The reports on echo servers to read: a row for each, a column for each size and window.

Markdown has the spread as well: plus and minus half of what lies between the quartiles of the turns, in percent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .report import deviation, size_text
from .tables import ratio_text

if TYPE_CHECKING:
    from .family import Table

Row = dict[str, Any]
Cell = Callable[[Row, str], str]

ECHO_INTRODUCTION = (
    "Each server has a process of its own and answers in turns; a figure is the"
    " median of the turns ± half of what lies between the quartiles. Processor time is the server's alone, as the kernel"
    " accounts for it; a ratio is taken turn by turn. x64: 64 frames outstanding. picows answers WebSocket frames, which"
    " carry the same payloads, all others u32be frames."
)


def echo_tables(report: Row) -> list[Table]:
    base = next(iter(report["contenders"]))
    everywhere = list(dict.fromkeys((row["payload"], row["window"]) for row in report["echo"]))
    one_by_one = [cell for cell in everywhere if cell[1] == 1]
    parts = [
        ("server's processor time, us a message", everywhere, cpu_cell),
        (f"the same, times {base}", everywhere, ratio_cell),
        ("messages a second", everywhere, rate_cell),
        ("us until the answer was here: median, 99 %", one_by_one, latency_cell),
    ]
    return [(title, heads(cells), rows(report, cells, text, base)) for title, cells, text in parts if cells]


def heads(cells: list[tuple[int, int]]) -> list[str]:
    return ["server", *(f"{size_text(payload)} x{window}" for payload, window in cells)]


def rows(report: Row, cells: list[tuple[int, int]], text: Cell, base: str) -> list[list[str]]:
    found = {(row["contender"], row["payload"], row["window"]): row for row in report["echo"]}

    def cell(name: str, payload: int, window: int) -> str:
        row = found.get((name, payload, window))
        return text(row, base) if row else ""

    return [[name, *(cell(name, *where) for where in cells)] for name in report["contenders"]]


def cpu_cell(row: Row, base: str) -> str:  # noqa: ARG001
    cpu = row["cpu_ns"]
    return f"{us_text(cpu['median'])} {deviation(cpu)}"


def ratio_cell(row: Row, base: str) -> str:
    return ratio_text(row["ratio"][base]["median"]) if base in row["ratio"] else ""


def rate_cell(row: Row, base: str) -> str:  # noqa: ARG001
    return f"{1e9 / row['wall_ns']['median']:,.0f}"


def latency_cell(row: Row, base: str) -> str:  # noqa: ARG001
    latency = row["latency_ns"]
    return f"{latency['median']['median'] / 1000:,.0f}, {latency['slow']['median'] / 1000:,.0f}"


def us_text(ns: float) -> str:
    return f"{ns / 1000:.2f}" if ns < 10_000 else f"{ns / 1000:,.1f}" if ns < 100_000 else f"{ns / 1000:,.0f}"
