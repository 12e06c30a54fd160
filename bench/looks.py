"""What contenders and figures look like wherever they are drawn, so that the page and the pictures show the same.

Colours are from the palette of Okabe and Ito, which colour-blind people can tell apart: ours are the cool ones, peers the warm
ones, native programs grey, the limit and what all are compared with black. Of one kind, those with the same word before a slash
share a shade and a marker (`callback/asyncio`, `callback/uvloop`), and dashes tell them apart.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from .charts import Bars, Heat

if TYPE_CHECKING:
    from .charts import Axis, Bar, Chart
    from .family import Report

# Of each kind, shade by shade: on white, on black.
SHADES: Final = {
    "limit": (("#000000", "#F2F2F2"), ("#555555", "#B8B8B8")),
    "base": (("#000000", "#F2F2F2"), ("#555555", "#B8B8B8")),
    "ours": (("#0072B2", "#3FA0E0"), ("#009E73", "#1FC79A"), ("#56B4E9", "#A5DBFA"), ("#1B3A8C", "#8C9BF5")),
    "native": (("#6E6E6E", "#A0A0A0"), ("#8F8F8F", "#7C7C7C"), ("#ABABAB", "#C8C8C8")),
    "compiled": (("#D55E00", "#E8742A"), ("#8F3F00", "#F5A878"), ("#F0945A", "#B85A1E")),
    "python": (("#E69F00", "#D99A1C"), ("#A87400", "#A87B22"), ("#F2C14E", "#E3C36B"), ("#7A5500", "#8A6B2E")),
    "local": (("#CC79A7", "#D98DB8"), ("#96487A", "#F0C3DB"), ("#E5B3CF", "#A8618A")),
    "remote": (("#D55E00", "#E8742A"), ("#8F3F00", "#F5A878"), ("#F0945A", "#B85A1E")),
}
KINDS: Final = {
    "limit": "the limit",
    "base": "what all are compared with",
    "ours": "fastframe",
    "native": "C, Go, Rust",
    "compiled": "peers with compiled parts",
    "python": "peers in Python",
    "local": "peers without a server",
    "remote": "peers with a server",
}
MARK: Final = ("#B00020", "#FF7B72")  # what should be reached, on white and on black
LONGEST_NAME: Final = 24  # characters in a line
BRIGHT: Final = 0.45  # of the way from dark to bright, viridis is as far from black as from white
MARKERS: Final = 6  # so many, and so many dashes, are told apart; pictures.py and plots.py say which
DASHES: Final = 4


def label_text(axis: Axis) -> str:
    """Return what stands at the axis of bars: where each step is a factor, the length of a bar means nothing by itself."""
    return f"{axis.label}, logarithmic" if axis.scale == "log" else axis.label


class Look(NamedTuple):
    kind: str
    shade: int
    marker: int
    dash: int


def looks(chart: Chart, report: Report) -> dict[str, Look]:
    """Return the looks of all that the chart shows, the same in every chart that shows contenders of the report."""
    in_chart, contenders = dict(shown(chart)), report["contenders"]
    found = looks_of({**contenders, **in_chart} if contenders.keys() & in_chart.keys() else in_chart)
    return {name: found[name] for name in in_chart}


def looks_of(kinds: Mapping[str, str]) -> dict[str, Look]:
    """Return the looks of contenders, given their kinds by name."""
    stems: dict[str, dict[str, int]] = {}  # how many have each stem, by kind
    found = {}
    for name, kind in kinds.items():
        stem = name.partition("/")[0]
        counts = stems.setdefault(kind, {})
        before = counts.setdefault(stem, 0)
        counts[stem] += 1
        at = list(counts).index(stem)
        again, shade = divmod(at, len(SHADES[kind]))
        found[name] = Look(kind, shade, at % MARKERS, (before + again) % DASHES)
    return found


def shown(chart: Chart) -> Iterator[tuple[str, str]]:
    """Yield name and kind of everybody in it, panel by panel."""
    if not isinstance(chart, Heat):
        for panel in chart.panels.values():
            yield from ((each.name, each.kind) for each in panel)


def drawable(charts: Sequence[Chart]) -> list[Chart]:
    """Return those that have a panel: where everybody was left out, there is none."""
    return [chart for chart in charts if any(chart.panels.values())]


def one_list(chart: Bars) -> list[str] | None:
    """Return the names that stand beside the bars, if they can be the same for all panels: some panel has all of them."""
    longest = max(chart.panels.values(), key=len)
    names = [bar.name for bar in longest]
    return names if {name for name, _ in shown(chart)} == set(names) else None


def name_lines(name: str) -> list[str]:
    """Return a name in lines, so that there is room beside it for a bar, on a phone as well."""
    return textwrap.wrap(name, LONGEST_NAME)


# Figures


def figure_text(value: float) -> str:
    """Return a figure with as many digits as a median is good for: 0.012, 1.23, 12.3, 123 or 1,234."""
    if value < 1:
        return f"{value:#.2g}" if value else "0"
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def tick_text(value: float) -> str:
    return f"{value:,.10g}"


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return round figures between two others, at most so many, evenly spread on a logarithmic axis."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            return ticks
    return ticks[:: math.ceil(len(ticks) / most)]


def bar_range(bars: Sequence[Bar], chart: Bars, share: float) -> tuple[float, float]:
    """Return where an axis begins and ends if such a share of it, at its end, is for the figures that are written there."""
    most = max([*(bar.value.upper for bar in bars), *chart.marks.values()])
    if chart.x.scale == "linear":
        return 0.0, most / (1 - share) or 1.0
    start = below(min(bar.value.lower for bar in bars))
    return start, start * (most / start) ** (1 / (1 - share))


def below(value: float) -> float:
    """Return a round figure well below another, for a logarithmic axis to begin with, where bars need a length."""
    decade = 10.0 ** math.floor(math.log10(value))
    return max(digit * decade for digit in (0.1, 0.2, 0.5, 1, 2, 5) if digit * decade <= 0.7 * value)


def some_sizes(sizes: Sequence[float], most: int) -> Sequence[float]:
    """Return at most so many of the sizes to write at an axis, the same number of them left out between any two."""
    return sizes[:: 2 ** math.ceil(math.log2(max(1, len(sizes) / most)))]


class Colouring(NamedTuple):
    """How figures between `low` and `high` become colours of viridis: those that are far apart by their logarithms."""

    low: float
    high: float
    by_logarithm: bool

    def scaled(self, value: float) -> float:
        return math.log10(value) if self.by_logarithm else value

    def is_bright(self, value: float) -> bool:
        """Tell whether black is easier to read there than white."""
        low, high = self.scaled(self.low), self.scaled(self.high)
        return self.scaled(value) > low + BRIGHT * (high - low)


def colouring(chart: Heat) -> Colouring:
    values = [cell for cells in chart.panels.values() for row in cells for cell in row if cell is not None]
    return Colouring(min(values), max(values), min(values) > 0 and max(values) > 10 * min(values))


def footer(report: Report) -> str:
    """Return in a line where and when it was measured."""
    machine = report["machine"]
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores",
        machine["kernel"],
        machine["python"],
        f"fastframe {machine['fastframe']} ({machine['implementation']})",
        machine["date"][:10],
    ]
    return " · ".join([*parts, "quick run"] if report["quick"] else parts)
