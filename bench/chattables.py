"""What the chat benchmark's report shows: its tables, the figures that are compared, and the charts.

A row's `table` tells what it is of: "talk", a room that talks; "slow", members that take nothing; "most", the highest rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .bars import MOST_CHAT_MS
from .charts import Axis, Bar, Bars, Chart
from .family import Figure, Report, Table
from .measure import Spread, spread
from .report import deviation
from .tables import ratio_text

MIB: Final = 1 << 20
IN_TIME: Final = f"the most with 99 % in {MOST_CHAT_MS} ms"
SLOW_HEADS: Final = ("", "cut", "s until then", "99 % of the others' ms", "most ms", "MiB more")
MOST_HEADS: Final = ("", "deliveries/s", "server busy", "client busy")

Row = dict[str, Any]


def tables(report: Report) -> list[Table]:
    """Return all tables with anything in them."""
    base = next(iter(report["contenders"]))
    members = next((row["members"] for row in report["chat"] if row["table"] == "slow"), 0)
    talk_heads = ["", "deliveries/s", "processor us", f"times {base}", "client's us", "ms", "99 % ms", "most ms", "MiB"]
    parts = [
        ("talk", "what a delivery takes", [*talk_heads, "KiB a member"], talk_cells),
        ("slow", f"{members} members who do not take anything", SLOW_HEADS, slow_cells),
        ("most", IN_TIME, MOST_HEADS, most_cells),
    ]
    found: list[Table] = []
    for table, title, heads, cells in parts:
        lines = [[row["contender"], *cells(row)] for row in rows_of(report, table)]
        if lines:
            found.append((title, heads, lines))
    return found


def rows_of(report: Report, table: str) -> list[Row]:
    return [row for row in report["chat"] if row["table"] == table]


def talk_cells(row: Row) -> list[str]:
    median, slow, slowest = (f"{row[kind]['median'] / 1e6:,.1f}" for kind in ("median", "slow", "slowest"))
    return [
        f"{row['rate']['median']:,.0f}",
        f"{row['cpu_ns']['median'] / 1e3:.2f} {deviation(row['cpu_ns'])}",
        *(ratio_text(ratio["median"]) for ratio in row["ratio"].values()),
        f"{row['client_ns']['median'] / 1e3:.2f}",
        median,
        f"{slow} {deviation(row['slow'])}",
        slowest,
        f"{row['memory'] / MIB:.1f}",
        f"{row['each'] / 1024:.1f}",
    ]


def slow_cells(row: Row) -> list[str]:
    cut = row["cut"]
    when = f"{min(cut):.1f} to {max(cut):.1f}" if cut else f"not in {row['longest']:g}"
    times = [f"{row[kind] / 1e6:,.1f}" for kind in ("slow", "slowest")]
    return [f"{len(cut)} of {row['members']}", when, *times, f"{row['grown'] / MIB:.1f}"]


def most_cells(row: Row) -> list[str]:
    busy = [f"{100 * row[kind]['median']:.0f} %" for kind in ("server_busy", "client_busy")]
    return [f"{row['rate']['median']:,.0f} {deviation(row['rate'])}", *busy]


def figures(report: Report) -> Iterator[Figure]:
    """Yield what a delivery takes, of the server's processor and until it was heard, and the most, where that was sought."""
    for row in report["chat"]:
        name = row["contender"]
        if row["table"] == "talk":
            ((_, ratio),) = row["ratio"].items()
            yield Figure(f"a delivery, {name}", "ns of the server's processor", Spread(**row["cpu_ns"]), Spread(**ratio), name)
            yield Figure(f"until 99 % were heard, {name}", "ns", Spread(**row["slow"]), contender=name)
        elif row["table"] == "slow" and row["cut"]:
            last = max(row["cut"])
            yield Figure(f"until all slow members were cut, {name}", "s", spread([last]), contender=name)
        elif row["table"] == "most":
            yield Figure(f"{IN_TIME}, {name}", "deliveries/s", Spread(**row["rate"]), contender=name, better="more")


def charts(report: Report) -> list[Chart]:
    """Return what was measured of: the processor time of a delivery and how late it was, or the most there can be."""
    room = "{members:,} members, {texts_a_second:,} texts a second".format(**report["settings"])
    talk, most = rows_of(report, "talk"), rows_of(report, "most")
    found: list[Chart] = []
    if talk:
        processor, wait = Axis("us of the server's processor a delivery"), Axis("ms until 99 % were heard", "log")
        found.append(
            Bars("processor", f"What a delivery costs the server: {room}", processor, bars(report, talk, "cpu_ns", 1e3), NOTE)
        )
        found.append(
            Bars(
                "wait",
                f"How long a delivery takes: {room}",
                wait,
                bars(report, talk, "slow", 1e6),
                f"{NOTE} From saying to hearing, the client's part included.",
                {f"{MOST_CHAT_MS} ms": MOST_CHAT_MS},
            )
        )
    if most:
        note = "More is better. The highest rate that everybody hears in time."
        found.append(Bars("most", IN_TIME, Axis("deliveries a second"), bars(report, most, "rate", 1), note))
    return found


def bars(report: Report, rows: list[Row], key: str, scale: float) -> dict[str, list[Bar]]:
    kinds = report["contenders"]
    spreads = {row["contender"]: Spread(*(row[key][part] / scale for part in Spread._fields)) for row in rows}
    return {"": [Bar(name, kinds[name], value) for name, value in spreads.items()]}


NOTE: Final = "Less is better. Each server is on the same core, all members on another; medians of turns, and the quartiles."
INTRODUCTION: Final = (
    "Members of one room say texts, and each text is told to all: a delivery is one"
    " text to one member. Servers have one core, all members together another; contenders take turns with the same number of"
    " members, the same texts and the same bytes, and a figure is the median of the turns ± half of what lies between the"
    " quartiles. Processor time is the server's alone, as the kernel accounts for it; a ratio is taken turn by turn. What a"
    " delivery takes is from saying to hearing, with the client's part in it. Every byte that every member got was compared: no"
    " text was missing, none came twice, and all came in the same order. *c* is the base: a loop of `send`, in C. Of those who"
    " cut nobody, one loop is asked about slow members."
)
