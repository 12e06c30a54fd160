"""The codec benchmark's report to read: lines for the terminal while it runs, Markdown for the documentation.

The terminal shows nanoseconds a frame, and for our own codecs the ratio to the first column. Markdown has the spread as well:
plus and minus half of what lies between the quartiles, in percent.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from .machine import STEADY_MEMCPY
from .report import size_text

Row = dict[str, Any]
TITLES = {
    "decode": "decode: ns a frame",
    "batch": "feed_batch: ns a frame, no object made of it",
    "encode": "encode: ns a frame",
}


def print_machine(report: Row) -> None:
    for key, value in machine_lines(report):
        print(f"{key + ':':<18}{value}")
    if report["machine"]["memcpy_stumble"] > 2:
        print(f"payloads of 4 KiB and more are partly luck here; {STEADY_MEMCPY} in the environment makes them steady")
    for reason in report["left_out"]:
        print("left out:", reason)


def machine_lines(report: Row) -> list[tuple[str, Any]]:
    return [*report["machine"].items(), *report["peers"].items()]


def print_heading(report: Row, table: str) -> None:
    names = report["contenders"][table]
    if not names:
        return
    heads = [textwrap.wrap(name, column(name) - 1) for name in names]
    height = max(map(len, heads))
    print(f"\n{TITLES[table]}" + f", and times {next(iter(names))}")
    for line in range(height):
        last = line == height - 1
        text = f"{'payload':>7}{'a call' if table == 'encode' else 'chunk':>8}" if last else " " * 15
        for (name, kind), words in zip(names.items(), heads, strict=True):
            word = ([""] * (height - len(words)) + words)[line]
            text += f"{word:>{column(name)}}" + " " * (7 if kind == "ours" else 0)
        print(text.rstrip())


def print_row(report: Row, table: str, cell: list[Row]) -> list[Row]:
    """Print the line of a cell, and return what was given."""
    if not cell:
        return cell
    names = report["contenders"][table]
    by_name = {row["contender"]: row for row in cell}
    first = next(iter(names))
    text = f"{size_text(cell[0]['payload']):>7}{second_text(cell[0]):>8}"
    for name, kind in names.items():
        row = by_name.get(name)
        text += f"{ns_text(row['ns']['median']) if row else '':>{column(name)}}"
        if kind == "ours":
            text += f"{ratio_text(row['ratio'][first]['median']) if row else '':>7}"
    print(text.rstrip(), flush=True)
    return cell


def column(name: str) -> int:
    return max(8, 1 + max(map(len, name.split())))


def second_text(row: Row) -> str:
    return size_text(row["chunk"]) if "chunk" in row else str(row["batch"])


def print_verdicts(report: Row) -> None:
    print()
    for verdict in report["bars"]:
        print(verdict_text(verdict))
        for cell, ratio in verdict["over"].items():
            print(f"    {ratio_text(ratio):>7}  {cell}")


def verdict_text(verdict: Row) -> str:
    reached, bars = verdict["reached"], verdict["at_most"]
    parts = [
        f"{key} {reached[key]:.2f}" + (f" (at most {bars[key]:.2f})" if key in bars else "") for key in ("median", "worst")
    ]
    return (
        f"{'reached' if verdict['passed'] else 'MISSED '}  {verdict['bar']}: {', '.join(parts)},"
        f" {verdict['worst_cell']}; {verdict['cells']} cells"
    )


def markdown(report: Row) -> str:
    """Return the whole report as a page of the documentation."""
    parts = ["# Benchmarks: the codec", *introduction(report)]
    for table, title in TITLES.items():
        names = list(report["contenders"][table])
        if not report[table]:
            continue
        parts += [f"## {title[0].upper()}{title[1:]}", markdown_table(report, table, names, ns_cell)]
        for ours in (name for name in names if report["contenders"][table][name] == "ours"):
            others = [name for name in names if name != ours]
            parts += [f"What {ours} takes, times what each of the others does:"]
            parts += [markdown_table(report, table, others, lambda cell, name, ours=ours: against_cell(cell, name, ours))]
    parts += ["## Twice the bytes", linear_table(report), "## The bars", bars_table(report)]
    return "\n\n".join(parts) + "\n"


def introduction(report: Row) -> Iterator[str]:
    yield (
        "Made by `fastframe bench codec --markdown`. Contenders take turns in one process; a figure is the median of the turns"
        " ± half of what lies between the quartiles, on the processor's clock. A ratio is taken turn by turn. *limit* is a loop"
        " in C that makes the objects and checks nothing, *by chunk* the same called once a chunk where a frame is longer than"
        " one; *walk* makes no objects. Peers get the same payloads in their own wire format, cut into the same chunks."
    )
    yield table_text(["", ""], [[key, str(value)] for key, value in machine_lines(report) if value != ""])
    if report["left_out"]:
        yield "\n".join(f"- left out: {reason}" for reason in report["left_out"])


def markdown_table(report: Row, table: str, names: list[str], cell_of: Any) -> str:
    cells: dict[tuple[int, int], dict[str, Row]] = {}
    for row in report[table]:
        cells.setdefault((row["payload"], row.get("chunk") or row["batch"]), {})[row["contender"]] = row
    heads = ["payload", "a call" if table == "encode" else "chunk", *names]
    rows = []
    for cell in cells.values():
        first = next(iter(cell.values()))
        rows.append([size_text(first["payload"]), second_text(first), *(cell_of(cell, name) for name in names)])
    return table_text(heads, rows)


def ns_cell(cell: dict[str, Row], name: str) -> str:
    if name not in cell:
        return ""
    ns = cell[name]["ns"]
    return f"{ns_text(ns['median'])} ±{50 * (ns['upper'] - ns['lower']) / ns['median']:.0f} %"


def against_cell(cell: dict[str, Row], name: str, ours: str) -> str:
    return f"{cell[ours]['ratio'][name]['median']:.2f}" if name in cell else ""


def linear_table(report: Row) -> str:
    rows = [
        [
            row["shape"],
            f"{row['bytes'] / (1 << 20):.0f} MiB in {row['chunks']:,} chunk{'s' * (row['chunks'] > 1)}",
            f"{row['contender']} {row['way']}",
            f"{row['ns']['median'] / 1e6:.1f}",
            f"{row['ratio']['half']['median']:.2f}",
        ]
        for row in report["linear"]
    ]
    return table_text(["shape", "stream", "", "ms", "times half of it"], rows)


def bars_table(report: Row) -> str:
    rows = []
    for verdict in report["bars"]:
        reached = [f"{verdict['reached'][key]:.2f}" for key in ("median", "worst")]
        bars = [f"≤ {verdict['at_most'][key]:.2f}" if key in verdict["at_most"] else "" for key in ("median", "worst")]
        over = "; ".join(f"{cell} {ratio:.2f}" for cell, ratio in verdict["over"].items())
        figures = [f"{figure} {bar}".strip() for figure, bar in zip(reached, bars, strict=True)]
        rows.append([verdict["bar"], *figures, verdict["worst_cell"], "yes" if verdict["passed"] else f"no: {over}"])
    return table_text(["", "median", "worst", "worst cell", "reached"], rows)


def table_text(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * 2 + ["---:"] * (len(heads) - 2), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def ns_text(ns: float) -> str:
    if ns >= 1e6:
        return f"{ns / 1e6:.1f}M"
    return f"{ns:.1f}" if ns < 100 else f"{ns:,.0f}"


def ratio_text(ratio: float) -> str:
    return f"{ratio:.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}x"
