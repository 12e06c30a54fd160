"""Tables for the terminal and for Markdown, and how figures are written in them, for all benchmarks alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .report import deviation

Row = dict[str, Any]


def print_verdicts(report: Row) -> None:
    print()
    for verdict in report["bars"]:
        print(verdict_text(verdict))
        for cell, ratio in verdict["over"].items():
            print(f"    {ratio:>7,.2f}  {cell}")


def verdict_text(verdict: Row) -> str:
    reached, bars = verdict["reached"], verdict["at_most"]
    parts = [
        f"{key} {reached[key]:.2f}" + (f" (at most {bars[key]:.2f})" if key in bars else "") for key in ("median", "worst")
    ]
    return (
        f"{'reached' if verdict['passed'] else 'MISSED '}  {verdict['bar']}: {', '.join(parts)},"
        f" {verdict['worst_cell']}; {verdict['cells']} cell{'s' * (verdict['cells'] != 1)}"
    )


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
    lines = [heads, (["---"] * 2 + ["---:"] * (len(heads) - 2))[: len(heads)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread_text(spread: Row) -> str:
    """Return the median, plus and minus half of what lies between the quartiles."""
    return f"{ns_text(spread['median'])} {deviation(spread)}"


def ns_text(ns: float) -> str:
    if ns >= 1e6:
        return f"{ns / 1e6:.1f}M"
    return f"{ns:.1f}" if ns < 100 else f"{ns:,.0f}"


def ratio_text(ratio: float) -> str:
    return f"{ratio:.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}x"
