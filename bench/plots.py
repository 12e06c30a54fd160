"""Charts as plotly draws them: traces and layouts, plain data for the page's script, which hands them to plotly.js.

A plot is one panel of a chart, so that panels can stand side by side or one below the other, as the width of the page allows.
Colours are names of the style sheet's, `var(--ours-0)`, and looked up there when a plot is drawn: they differ at night. Texts
are HTML for plotly, so whatever comes from a report is escaped.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .charts import Axis, Bar, Bars, Heat, Line, Lines
from .looks import Look, bar_range, figure_text, is_wide, log_ticks, looks, one_list, some_sizes, tick_text
from .report import size_text

if TYPE_CHECKING:
    from .charts import Chart
    from .family import Report
    from .measure import Spread

SYMBOLS: Final = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
DASHES: Final = ("solid", "7px,3px", "2px,3px", "7px,3px,2px,3px")
BAR_HEIGHT: Final = 23  # CSS pixels, with its share of the space between
LONGEST_NAME: Final = 24  # characters in a line, so that a phone has room for bars as well
FIGURES_SHARE: Final = 0.24  # of a bars' axis, for the figures at its end
Json = dict[str, Any]


class Plot(NamedTuple):
    """A panel: its title, what plotly gets, and its least width and its height in CSS pixels."""

    title: str
    traces: list[Json]
    layout: Json
    width: int
    height: int


def plots(chart: Chart, report: Report) -> list[Plot]:
    """Return the panels of a chart."""
    match chart:
        case Lines():
            return list(line_plots(chart, looks(chart, report)))
        case Bars():
            return list(bar_plots(chart))
        case Heat():
            return list(heat_plots(chart))


def layout(x: Json, y: Json) -> Json:
    common = {"gridcolor": "var(--line)", "zerolinecolor": "var(--line)", "linecolor": "var(--quiet)", "automargin": True}
    return {
        "xaxis": {**common, **x},
        "yaxis": {**common, **y},
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "var(--text)"},
        "hoverlabel": {"bgcolor": "var(--panel)", "bordercolor": "var(--quiet)", "font": {"color": "var(--text)"}},
        "hovermode": "closest",
        "showlegend": False,
        "uirevision": "same",  # what is zoomed stays so when colours change
    }


def hover_text(name: str, where: str, value: Spread, unit: str) -> str:
    quartiles = f"quartiles {figure_text(value.lower)} to {figure_text(value.upper)}"
    head = f"<b>{escape(name)}</b>" + (f", {escape(where)}" if where else "")
    return f"{head}<br>{figure_text(value.median)} {escape(unit)}<br>{quartiles}"


def whiskers(values: Sequence[Spread], colour: Any) -> Json:
    return {
        "type": "data",
        "symmetric": False,
        "array": [value.upper - value.median for value in values],
        "arrayminus": [value.median - value.lower for value in values],
        "color": colour,
        "thickness": 1,
        "width": 2,
    }


def axis_of(axis: Axis, sizes: Sequence[float] = ()) -> Json:
    shape: Json = {"title": {"text": escape(axis.label)}}
    if axis.scale == "linear":
        return shape | {"rangemode": "tozero", "tickformat": ",~r"}
    if axis.scale == "log":
        return shape | {"type": "log", "tickformat": ",~r"}
    ticks = some_sizes(sizes, 6)
    return shape | {"type": "log", "tickvals": list(ticks), "ticktext": [size_text(int(size)) for size in ticks]}


# Lines


def line_plots(chart: Lines, look: Mapping[str, Look]) -> Iterator[Plot]:
    everything = [line for lines in chart.panels.values() for line in lines]
    sizes = sorted({x for line in everything for x in line.x})
    x, y = axis_of(chart.x, sizes), axis_of(chart.y)
    figures = [figure for line in everything for spread in line.y for figure in spread]
    if chart.y.scale == "log":
        y["range"] = [math.log10(min(figures) * 0.85), math.log10(max(figures) * 1.15)]
    else:
        y["range"] = [0, max(figures) * 1.05]
    for title, lines in chart.panels.items():
        yield Plot(title, [line_trace(line, look[line.name], chart) for line in lines], layout(x, y), 400, 400)


def line_trace(line: Line, look: Look, chart: Lines) -> Json:
    colour, ours = colour_of(look), look.kind == "ours"
    where = [size_text(int(x)) if chart.x.scale == "sizes" else f"{tick_text(x)} {chart.x.label}" for x in line.x]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": line.name,
        "x": list(line.x),
        "y": [value.median for value in line.y],
        "error_y": whiskers(line.y, colour),
        "line": {"color": colour, "width": 2.5 if ours else 1.5, "dash": DASHES[look.dash]},
        "marker": {"color": colour, "size": 7 if ours else 6, "symbol": SYMBOLS[look.marker]},
        "hoverinfo": "text",
        "hovertext": [hover_text(line.name, place, value, chart.y.label) for place, value in zip(where, line.y, strict=True)],
    }


def colour_of(look: Look) -> str:
    return f"var(--{look.kind}-{look.shade})"


# Bars


def bar_plots(chart: Bars) -> Iterator[Plot]:
    shared = one_list(chart)
    for title, bars in chart.panels.items():
        names = [bar_name(name) for name in shared or [bar.name for bar in bars]]
        x, y = axis_of(chart.x), {"categoryorder": "array", "categoryarray": names, "range": [len(names) - 0.4, -0.6]}
        start, end = bar_range(bars, chart, FIGURES_SHARE)
        x["range"] = [start, end] if chart.x.scale == "linear" else [math.log10(start), math.log10(end)]
        x["nticks"] = 6
        shape = layout(x, y | {"showgrid": False, "ticksuffix": " "})
        shape["shapes"] = [mark_shape(at, value) for at, value in enumerate(chart.marks.values())]
        lines = sum(name.count("<br>") + 1 for name in names)
        yield Plot(title, [bar_trace(bars, chart.x.label), figures_trace(bars)], shape, 330, 70 + BAR_HEIGHT * lines)


def bar_name(name: str) -> str:
    return "<br>".join(map(escape, textwrap.wrap(name, LONGEST_NAME)))


def bar_trace(bars: Sequence[Bar], unit: str) -> Json:
    return {
        "type": "bar",
        "orientation": "h",
        "y": [bar_name(bar.name) for bar in bars],
        "x": [bar.value.median for bar in bars],
        "marker": {"color": [f"var(--{bar.kind}-0)" for bar in bars]},
        "error_x": whiskers([bar.value for bar in bars], "var(--text)"),
        "hoverinfo": "text",
        "hovertext": [hover_text(bar.name, "", bar.value, unit) for bar in bars],
        "textposition": "none",
    }


def figures_trace(bars: Sequence[Bar]) -> Json:
    """Return the figures at the bars' ends, behind their whiskers: a text of the bar itself would be below its whisker."""
    texts = [figure_text(bar.value.median) for bar in bars]
    return {
        "type": "scatter",
        "mode": "text",
        "y": [bar_name(bar.name) for bar in bars],
        "x": [bar.value.upper for bar in bars],
        "text": [f" <b>{text}</b>" if bar.kind == "ours" else f" {text}" for bar, text in zip(bars, texts, strict=True)],
        "textposition": "middle right",
        "hoverinfo": "skip",
    }


def mark_shape(at: int, value: float) -> Json:
    line = {"color": "var(--mark)", "width": 1.5, "dash": DASHES[1 + at % (len(DASHES) - 1)]}
    return {"type": "line", "x0": value, "x1": value, "y0": 0, "y1": 1, "yref": "paper", "line": line}


# Heat


def heat_plots(chart: Heat) -> Iterator[Plot]:
    values = [cell for cells in chart.panels.values() for row in cells for cell in row if cell is not None]
    wide = is_wide(values)
    colour = math.log10 if wide else float
    ticks = log_ticks(min(values), max(values), 8)
    bar: Json = {"thickness": 12, "outlinewidth": 0, "title": {"text": escape(chart.unit), "side": "right"}}
    if wide:
        bar |= {"tickvals": list(map(math.log10, ticks)), "ticktext": list(map(tick_text, ticks))}
    x, y = heat_axis(chart.x.label), heat_axis(chart.y.label)
    height = 90 + 32 * len(chart.rows)
    for title, cells in chart.panels.items():
        trace = {
            "type": "heatmap",
            "x": list(map(size_text, chart.columns)),
            "y": list(map(size_text, chart.rows)),
            "z": [[None if cell is None else colour(cell) for cell in row] for row in cells],
            "zmin": colour(min(values)),
            "zmax": colour(max(values)),
            "colorscale": "Viridis",
            "colorbar": bar,
            "text": [["" if cell is None else figure_text(cell) for cell in row] for row in cells],
            "texttemplate": "%{text}",
            "textfont": {"size": 11},
            "hovertext": [list(heat_texts(chart, size, row)) for size, row in zip(chart.rows, cells, strict=True)],
            "hoverinfo": "text",
            "hoverongaps": False,
            "xgap": 1,
            "ygap": 1,
        }
        yield Plot(title, [trace], layout(x, y), 170 + 42 * len(chart.columns), height)


def heat_axis(label: str) -> Json:
    return {"title": {"text": escape(label)}, "type": "category", "showgrid": False}


def heat_texts(chart: Heat, size: int, row: Sequence[float | None]) -> Iterator[str]:
    for column, cell in zip(chart.columns, row, strict=True):
        where = f"{size_text(size)} {chart.y.label}<br>{size_text(column)} {chart.x.label}"
        yield "" if cell is None else f"<b>{figure_text(cell)} {escape(chart.unit)}</b><br>{where}"
