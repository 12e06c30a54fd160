"""Charts as plotly draws them: traces and layouts, plain data for the page's script, which hands them to plotly.js.

A plot is one panel of a chart, so that panels can stand side by side or one below the other, as the width of the page allows.
Colours are names of the style sheet's, `var(--ours-0)`, and looked up there when a plot is drawn: they differ at night. Texts
are HTML for plotly, so whatever comes from a report is escaped.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .charts import Axis, Bar, Bars, Heat, Line, Lines
from .looks import (
    Colouring,
    Look,
    bar_range,
    colouring,
    figure_text,
    label_text,
    log_ticks,
    looks,
    name_lines,
    one_list,
    some_sizes,
    tick_text,
)
from .report import size_text

if TYPE_CHECKING:
    from .charts import Chart
    from .family import Report
    from .measure import Spread

SYMBOLS: Final = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
DASHES: Final = ("solid", "7px,3px", "2px,3px", "7px,3px,2px,3px")
BAR_HEIGHT: Final = 23  # CSS pixels, with its share of the space between
LONGEST_LABEL: Final = 45  # of an axis
LONGEST_BARS_LABEL: Final = 30
FIGURES_SHARE: Final = 0.24  # of a bars' axis, for the figures at its end
Json = dict[str, Any]
Cells = Sequence[Sequence[float | None]]


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
        "margin": {"l": 8, "r": 8, "t": 34, "b": 8},  # above are the buttons
        "paper_bgcolor": "var(--ground)",  # of a picture that is saved as well
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "var(--text)"},
        "hoverlabel": {"bgcolor": "var(--panel)", "bordercolor": "var(--quiet)", "font": {"color": "var(--text)"}},
        "modebar": {"bgcolor": "var(--ground)", "color": "var(--quiet)", "activecolor": "var(--text)"},
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


def axis_of(axis: Axis, sizes: Sequence[float] = (), longest: int = LONGEST_LABEL) -> Json:
    shape: Json = {"title": {"text": wrapped(axis.label, longest)}}
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
        y["dtick"] = "D2" if max(figures) < 1e4 * min(figures) else 1  # 1, 2, 5 and 10, or 1 and 10
    else:
        y["range"] = [0, max(figures) * 1.05]
    for title, lines in chart.panels.items():
        yield Plot(title, [line_trace(line, look[line.name], chart) for line in lines], layout(x, y), 400, 420)


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
        x, y = (
            axis_of(replace(chart.x, label=label_text(chart.x)), longest=LONGEST_BARS_LABEL),
            {"categoryorder": "array", "categoryarray": names, "range": [len(names) - 0.4, -0.6]},
        )
        start, end = bar_range(bars, chart, FIGURES_SHARE)
        x["range"] = [start, end] if chart.x.scale == "linear" else [math.log10(start), math.log10(end)]
        if chart.x.scale == "log":
            ticks = log_ticks(start, end, 5)
            x |= {"tickvals": ticks, "ticktext": list(map(tick_text, ticks))}
        shape = layout(x, y | {"showgrid": False, "ticksuffix": " "})
        shape["shapes"] = [mark_shape(at, value) for at, value in enumerate(chart.marks.values())]
        lines = sum(name.count("<br>") + 1 for name in names)
        yield Plot(title, [bar_trace(bars, chart.x.label), figures_trace(bars)], shape, 330, 90 + BAR_HEIGHT * lines)


def bar_name(name: str) -> str:
    return "<br>".join(map(escape, name_lines(name)))


def wrapped(text: str, width: int) -> str:
    return "<br>".join(map(escape, textwrap.wrap(text, width)))


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
    colours = colouring(chart)
    x, y = heat_axis(chart.x.label, chart.columns), heat_axis(chart.y.label, chart.rows)
    width, height = 170 + 42 * len(chart.columns), 110 + 32 * len(chart.rows)
    for title, cells in chart.panels.items():
        traces = [
            heat_trace(chart, cells, colours),
            cell_texts(chart, cells, "#ffffff", lambda cell: not colours.is_bright(cell)),
            cell_texts(chart, cells, "#000000", colours.is_bright),
        ]
        yield Plot(title, traces, layout(x, y), width, height)


def heat_trace(chart: Heat, cells: Cells, colours: Colouring) -> Json:
    bar: Json = {"thickness": 12, "outlinewidth": 0, "title": {"text": escape(chart.unit), "side": "right"}}
    if colours.by_logarithm:
        ticks = log_ticks(colours.low, colours.high, 8)
        bar |= {"tickvals": list(map(colours.scaled, ticks)), "ticktext": list(map(tick_text, ticks))}
    return {
        "type": "heatmap",
        "x": list(map(size_text, chart.columns)),
        "y": list(map(size_text, chart.rows)),
        "z": [[None if cell is None else colours.scaled(cell) for cell in row] for row in cells],
        "zmin": colours.scaled(colours.low),
        "zmax": colours.scaled(colours.high),
        "colorscale": "Viridis",
        "colorbar": bar,
        "hovertext": [list(heat_texts(chart, size, row)) for size, row in zip(chart.rows, cells, strict=True)],
        "hoverinfo": "text",
        "hoverongaps": False,
        "xgap": 1,
        "ygap": 1,
    }


def cell_texts(chart: Heat, cells: Cells, colour: str, belongs: Callable[[float], bool]) -> Json:
    """Return the figures of those cells that have them in this colour."""
    found = [
        (size_text(column), size_text(size), figure_text(cell))
        for size, row in zip(chart.rows, cells, strict=True)
        for column, cell in zip(chart.columns, row, strict=True)
        if cell is not None and belongs(cell)
    ]
    return {
        "type": "scatter",
        "mode": "text",
        "x": [column for column, _, _ in found],
        "y": [size for _, size, _ in found],
        "text": [text for _, _, text in found],
        "textfont": {"color": colour, "size": 11},
        "hoverinfo": "skip",
    }


def heat_axis(label: str, sizes: Sequence[int]) -> Json:
    shape = {"type": "category", "range": [-0.5, len(sizes) - 0.5], "showgrid": False, "showline": False, "ticks": ""}
    return {"title": {"text": escape(label), "standoff": 8}, "ticksuffix": " ", **shape}


def heat_texts(chart: Heat, size: int, row: Sequence[float | None]) -> Iterator[str]:
    for column, cell in zip(chart.columns, row, strict=True):
        where = f"{size_text(size)} {chart.y.label}<br>{size_text(column)} {chart.x.label}"
        yield "" if cell is None else f"<b>{figure_text(cell)} {escape(chart.unit)}</b><br>{where}"
