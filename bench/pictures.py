"""Charts as PNG files, for the README and the documentation, drawn with matplotlib.

A picture is as wide as a README shows it, or a little wider, so that its words can be read there. From the top: title, how to
read it, key, panels, where it was measured. Heights are in inches and given to each part beforehand; constrained layout then
places the panels in what is left, so that nothing overlaps, however many panels and contenders there are. White behind all of
it, since the ground may be dark where it is shown.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .charts import Axis, Bar, Bars, Heat, Line, Lines
from .looks import (
    KINDS,
    MARK,
    SHADES,
    Colouring,
    Look,
    bar_range,
    colouring,
    figure_text,
    footer,
    label_text,
    log_ticks,
    looks,
    looks_of,
    name_lines,
    one_list,
    shown,
    some_sizes,
    tick_text,
)
from .measure import Spread
from .report import size_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .charts import Chart
    from .family import Report
    from .report import Rate

WIDTH: Final = 10.0  # inches
DPI: Final = 130
COLOURS_IN_FILE: Final = 256  # 8 bits a pixel are a third of the bytes, and nobody sees the difference
MARKERS: Final = ("o", "s", "^", "D", "v", "P")
DASHES: Final = ("solid", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (5, 1.5, 1, 1.5)))
STYLE: Final[Any] = {
    "text.parse_math": False,  # a dollar sign is one
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.edgecolor": "#888888",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.7,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}
LETTER: Final = 0.07  # inches, of a character of 9 points, on average
BAR_HEIGHT: Final = 0.19  # inches, with its share of the space between
LINE_HEIGHT: Final = 0.13


def draw(chart: Chart, report: Report, path: Path) -> None:
    """Save a chart as a picture; raise ModuleNotFoundError without matplotlib, OSError if it cannot be written."""
    import matplotlib as mpl  # noqa: PLC0415  an extra, and 0.3 s of import

    with mpl.rc_context(STYLE):
        match chart:
            case Lines():
                figure = draw_lines(chart, looks(chart, report), footer(report))
            case Bars():
                figure = draw_bars(chart, footer(report))
            case Heat():
                figure = draw_heat(chart, footer(report))
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure, with few colours."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415  matplotlib brings it

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba(), "raw", "RGBA", 0, 1).convert("RGB")
    pixels.quantize(COLOURS_IN_FILE, dither=Image.Dither.NONE).save(path, format="png", optimize=True, dpi=(DPI, DPI))


class Around(NamedTuple):
    """What stands above and below the panels; `key` has a line or a patch for each name."""

    title: str
    note: str
    footer: str
    key: Mapping[str, Any]


def sheet(around: Around, count: int, columns: int, height: float, *, shared: bool = False) -> tuple[Figure, list[Axes]]:
    """Return a figure with everything but what the panels show, and the axes of those, each `height` inches high."""
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415

    words, key = textwrap.wrap(around.note, 145), around.key
    in_a_row = max(1, int(WIDTH / (0.5 + LETTER * max(map(len, key), default=1))))
    rows, head = math.ceil(count / columns), 0.42 + 0.17 * len(words)
    legend = 0.2 * math.ceil(len(key) / in_a_row) + 0.1 if key else 0.0
    panels, foot = rows * height, 0.3
    total = head + legend + panels + foot
    layout = ConstrainedLayoutEngine(rect=(0, foot / total, 1, panels / total), w_pad=0.06, h_pad=0.06, wspace=0.02)
    figure = Figure(figsize=(WIDTH, total), dpi=DPI, layout=layout, facecolor="white")
    figure.text(0.012, 1 - 0.12 / total, around.title, size=13, weight="bold", va="top")
    figure.text(0.012, 1 - 0.4 / total, "\n".join(words), color="#444444", va="top", linespacing=1.3)
    figure.text(0.012, 0.1 / total, around.footer, size=7.5, color="#666666")
    figure.legend(
        key.values(), key.keys(), loc="upper left", bbox_to_anchor=(0.005, 1 - head / total), ncols=in_a_row,
        frameon=False, borderaxespad=0, handlelength=2.4, columnspacing=1.2, labelspacing=0.35, fontsize=9,
    )  # fmt: skip
    axes = figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared).flatten()
    for empty in axes[count:]:
        empty.set_visible(False)
    return figure, list(axes[:count])


def columns_for(count: int, most: int) -> int:
    """Return in how many columns so many panels stand, at most so many, without a gap if that can be."""
    return min(most, {4: 2, 5: 3, 6: 3, 9: 3}.get(count, count))


# Lines


def draw_lines(chart: Lines, look: Mapping[str, Look], foot: str) -> Figure:
    columns = columns_for(len(chart.panels), 3)
    around = Around(chart.title, chart.note, foot, key_of(look))
    figure, axes = sheet(around, len(chart.panels), columns, 4.4 if columns >= len(chart.panels) else 3.4, shared=True)
    for at, (axis, (title, lines)) in enumerate(zip(axes, chart.panels.items(), strict=True)):
        axis.set_title(title, loc="left")
        draw_panel(axis, lines, look)
        axis.set_xlabel(chart.x.label if at + columns >= len(axes) else "")
        axis.set_ylabel(chart.y.label if at % columns == 0 else "")
        axis.tick_params(labelbottom=at + columns >= len(axes))
    scale_both(axes[0], [line for lines in chart.panels.values() for line in lines], chart.x, chart.y, WIDTH / columns)
    return figure


def draw_rates(rates: Mapping[str, Sequence[Rate]], path: Path, title: str, note: str) -> None:
    """Save the demo's picture: throughput by frame size; raise ModuleNotFoundError without matplotlib, OSError if it cannot."""
    import matplotlib as mpl  # noqa: PLC0415  an extra, and 0.3 s of import

    kinds = {way: "python" if way == "readexactly" else "ours" for way in rates}
    look = looks_of(kinds)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(Around(title, "", note, key_of(look)), 2, 2, 4.2)
        for axis, (unit, label) in zip(axes, RATES.items(), strict=True):
            lines = [rate_line(way, kinds[way], unit, series) for way, series in rates.items()]
            draw_panel(axis, lines, look)
            axis.set(xlabel="payload of a frame", ylabel=label)
            scale_both(axis, lines, Axis("", "sizes"), Axis("", "log"), WIDTH / 2)
        save(figure, path)


RATES: Final = {"megabytes_per_second": "MB/s, each way", "frames_per_second": "frames/s, each way"}


def rate_line(way: str, kind: str, unit: str, series: Sequence[Rate]) -> Line:
    values = [getattr(rate, unit) for rate in series]
    return Line(way, kind, [rate.size for rate in series], [Spread(value, value, value) for value in values])


def key_of(look: Mapping[str, Look]) -> dict[str, Any]:
    from matplotlib.lines import Line2D  # noqa: PLC0415

    return {name: Line2D([], [], **style(each)) for name, each in look.items()}


def draw_panel(axis: Axes, lines: Sequence[Line], look: Mapping[str, Look]) -> None:
    """Draw lines with a band from quartile to quartile, ours on top."""
    for line in lines:
        own = style(look[line.name])
        lower, median, upper = zip(*line.y, strict=True)
        axis.plot(line.x, median, **own)
        axis.fill_between(line.x, lower, upper, color=own["color"], alpha=0.14, linewidth=0, zorder=own["zorder"] - 1)
    axis.grid(visible=True)


def scale_both(axis: Axes, lines: Sequence[Line], x: Axis, y: Axis, width: float) -> None:
    """Scale the axes for these lines, where a panel is `width` inches wide."""
    scale_axis(axis.xaxis, x, sorted({x for line in lines for x in line.x}), int(width / 0.6))
    scale_axis(axis.yaxis, y, [value for line in lines for spread in line.y for value in spread], 8)
    if y.scale == "linear":
        axis.set_ylim(bottom=0)


def style(look: Look) -> dict[str, Any]:
    ours = look.kind == "ours"
    return {
        "color": SHADES[look.kind][look.shade][0],
        "linestyle": DASHES[look.dash],
        "marker": MARKERS[look.marker],
        "linewidth": 2.2 if ours else 1.4,
        "markersize": 5.5 if ours else 4.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
        "zorder": 5 if ours else 3,
    }


def scale_axis(axis: Any, what: Axis, values: Sequence[float], most: int) -> None:
    """Give an axis its scale, and at most so many ticks."""
    if what.scale == "linear":
        axis.get_major_locator().set_params(nbins=most)
        axis.set_major_formatter(lambda value, _: tick_text(value))
        return
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    if what.scale == "sizes":
        ticks: Sequence[float] = some_sizes(values, most)
        axis.set_ticks(ticks, [size_text(int(size)) for size in ticks])
    else:
        ticks = log_ticks(min(values) * 0.9, max(values) * 1.1, most)
        axis.set_ticks(ticks, [tick_text(tick) for tick in ticks])
    axis.set_ticks([], minor=True)


# Bars


def draw_bars(chart: Bars, foot: str) -> Figure:
    names, count = one_list(chart), len(chart.panels)
    everything = [bar for bars in chart.panels.values() for bar in bars]
    columns = columns_for(count, 4 if names else 2)
    lines = [name_lines(bar.name) for bar in everything]
    bar_height = BAR_HEIGHT + LINE_HEIGHT * (max(map(len, lines)) - 1)
    height = 0.75 + bar_height * max(map(len, chart.panels.values()))
    figure, axes = sheet(Around(chart.title, chart.note, foot, bars_key(chart)), count, columns, height)
    longest = max(len(line) for name in lines for line in name)
    width = (WIDTH - LETTER * longest * (1 if names else columns)) / columns - 0.3
    for at, (axis, (title, bars)) in enumerate(zip(axes, chart.panels.items(), strict=True)):
        axis.set_title(title, loc="left")
        bar_panel(axis, bars, names or [bar.name for bar in bars], chart, width)
        axis.tick_params(labelleft=not names or at % columns == 0)
        axis.set_xlabel(label_text(chart.x) if at + columns >= count else "")
    return figure


def bars_key(chart: Bars) -> dict[str, Any]:
    from matplotlib.lines import Line2D  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    kinds = dict.fromkeys(kind for _, kind in shown(chart))
    key: dict[str, Any] = {KINDS[kind]: Patch(color=SHADES[kind][0][0]) for kind in kinds}
    return key | {text: Line2D([], [], **mark_style(at)) for at, text in enumerate(chart.marks)}


def mark_style(at: int) -> dict[str, Any]:
    return {"color": MARK[0], "linestyle": DASHES[1 + at % (len(DASHES) - 1)], "linewidth": 1.3, "zorder": 4}


def bar_panel(axis: Axes, bars: Sequence[Bar], names: Sequence[str], chart: Bars, width: float) -> None:
    """Draw bars on an axis that is `width` inches wide, each at the place of its name."""
    from matplotlib.patheffects import withStroke  # noqa: PLC0415

    figures = max(len(figure_text(bar.value.median)) for bar in bars)
    halo = [withStroke(linewidth=2, foreground="white")]  # black on black could not be seen
    start, end = bar_range(bars, chart, min(0.6, (0.1 + 0.9 * LETTER * figures) / width))
    for bar in bars:
        place, (lower, median, upper) = names.index(bar.name), bar.value
        axis.barh(place, median - start, 0.74, left=start, color=SHADES[bar.kind][0][0])
        axis.plot([lower, upper], [place, place], color="#222222", linewidth=1, snap=False, path_effects=halo)
        axis.annotate(
            figure_text(median), (upper, place), (4, 0), textcoords="offset points", va="center", size=8, zorder=6,
            weight="bold" if bar.kind == "ours" else "normal", path_effects=halo,
        )  # fmt: skip
    axis.set_yticks(range(len(names)), ["\n".join(name_lines(name)) for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(visible=True, axis="x")
    for at, value in enumerate(chart.marks.values()):
        axis.axvline(value, **mark_style(at))
    scale_axis(axis.xaxis, chart.x, [start, end], max(3, int(width / 0.5)))
    axis.set_xlim(start, end)


# Heat


def draw_heat(chart: Heat, foot: str) -> Figure:
    from matplotlib.colors import LogNorm, Normalize  # noqa: PLC0415

    columns = columns_for(len(chart.panels), max(1, 20 // len(chart.columns)))
    around = Around(chart.title, chart.note, foot, {})
    figure, axes = sheet(around, len(chart.panels), columns, 0.9 + 0.36 * len(chart.rows))
    colours = colouring(chart)
    norm = (LogNorm if colours.by_logarithm else Normalize)(colours.low, colours.high)
    for axis, (title, cells) in zip(axes, chart.panels.items(), strict=True):
        axis.set_title(title, loc="left")
        values = [[math.nan if cell is None else cell for cell in row] for row in cells]
        mesh = axis.pcolormesh(values, norm=norm, cmap="viridis", edgecolors="white", linewidth=1)
        write_cells(axis, cells, colours, (WIDTH / columns - 1.2) / len(chart.columns))
        name_cells(axis, chart)
    bar = figure.colorbar(mesh, ax=axes, label=chart.unit, pad=0.015, fraction=0.04, aspect=30)
    if colours.by_logarithm:
        ticks = log_ticks(colours.low, colours.high, 8)
        bar.set_ticks(ticks, labels=[tick_text(tick) for tick in ticks])
        bar.minorticks_off()
    bar.outline.set_visible(False)
    return figure


def write_cells(axis: Axes, cells: Sequence[Sequence[float | None]], colours: Colouring, width: float) -> None:
    """Write each figure into its cell, which is `width` inches wide, in black where that is bright."""
    found = [(x, y, cell) for y, row in enumerate(cells) for x, cell in enumerate(row) if cell is not None]
    longest = max((len(figure_text(cell)) for _, _, cell in found), default=1)
    size = min(8.0, 8 * width / (LETTER * (longest + 1)))
    for x, y, cell in found:
        colour = "black" if colours.is_bright(cell) else "white"
        axis.text(x + 0.5, y + 0.5, figure_text(cell), ha="center", va="center", size=size, color=colour)


def name_cells(axis: Axes, chart: Heat) -> None:
    axis.set_xticks([at + 0.5 for at in range(len(chart.columns))], map(size_text, chart.columns), rotation=35, ha="right")
    axis.set_yticks([at + 0.5 for at in range(len(chart.rows))], map(size_text, chart.rows))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlabel(chart.x.label)
    axis.set_ylabel(chart.y.label)
