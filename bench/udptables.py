"""What the report on echoes of datagrams shows: its table, the figures that are compared, and the charts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .bars import MOST_UDP_US
from .charts import Axis, Bar, Bars, Chart
from .family import Figure, Report, Table
from .measure import Spread
from .report import deviation
from .tables import ratio_text

Row = dict[str, Any]


def tables(report: Report) -> list[Table]:
    """Return the one table."""
    base, pace = next(iter(report["contenders"])), report["settings"]["pace"]
    heads = ["", "processor us", f"times {base}", "of one core/s", "measured/s", "lost", f"lost at {pace:,}/s", "of all turns"]
    title = f"an echo of a datagram of {report['settings']['datagram']}"
    return [(title, heads, [[row["contender"], *cells(row)] for row in report["udp"]])]


def cells(row: Row) -> list[str]:
    ((_, ratio),) = row["ratio"].items()
    sent, answered = row["paced"]["sent"], row["paced"]["answered"]
    return [
        f"{row['cpu_ns']['median'] / 1000:.1f} {deviation(row['cpu_ns'])}",
        ratio_text(ratio["median"]),
        f"{1e9 / row['cpu_ns']['median']:,.0f}",
        f"{row['rate']['median']:,.0f}",
        f"{row['lost']:,}",
        f"{100 - row['paced']['percent']['median']:.1f} %",
        f"{sent - answered:,} of {sent:,}",
    ]


def figures(report: Report) -> Iterator[Figure]:
    """Yield the server's processor time a datagram, and how many came back at the pace."""
    size, pace = report["settings"]["datagram"], report["settings"]["pace"]
    for row in report["udp"]:
        name = row["contender"]
        ((_, ratio),) = row["ratio"].items()
        yield Figure(f"{size}, {name}", "ns of the server's processor", Spread(**row["cpu_ns"]), Spread(**ratio), name)
        answered = Spread(**row["paced"]["percent"])
        yield Figure(f"{size} at {pace:,}/s, {name}", "% answered", answered, contender=name, better="more")


def charts(report: Report) -> list[Chart]:
    """Return what a datagram costs each server, and how many come back at the pace."""
    size, pace = report["settings"]["datagram"], report["settings"]["pace"]
    cost = {row["contender"]: Spread(*(ns / 1000 for ns in row["cpu_ns"].values())) for row in report["udp"]}
    back = {row["contender"]: Spread(**row["paced"]["percent"]) for row in report["udp"]}
    return [
        Bars(
            "processor",
            f"What an echo of a datagram of {size} costs the server",
            Axis("us of the server's processor a datagram", "log"),
            bars(report, cost),
            "Less is better. The servers alternate on one core; medians of turns, and the quartiles.",
            {f"{1e6 / MOST_UDP_US:,.0f} a second": MOST_UDP_US},
        ),
        Bars(
            "pace",
            f"How many datagrams of {size} come back when {pace:,} are sent a second",
            Axis("% answered"),
            bars(report, back),
            "More is better. What a server does not take in time is dropped by the kernel.",
        ),
    ]


def bars(report: Report, spreads: dict[str, Spread]) -> dict[str, list[Bar]]:
    return {"": [Bar(name, report["contenders"][name], value) for name, value in spreads.items()]}


INTRODUCTION: Final = (
    "A server has one core, the client another. Figures are medians of turns in which the servers alternate, ± half of what"
    " lies between the quartiles. *Processor us* is the server's processor time for a datagram in and out, as the kernel"
    " accounts for it, with so many requests under way as *under_way* says; *of one core/s* what that allows; a ratio is taken"
    " turn by turn. *measured/s* has the client and the machine in it. At the pace, requests are sent whatever is answered:"
    " what was lost in the median turn, and in all turns, for who has no processor for a while loses what comes meanwhile."
    " *c* is the base: recvmmsg and sendmmsg, without a look at the bytes."
)
