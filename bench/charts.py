"""What there is to be drawn, said once: the page draws it with plotly, the pictures with matplotlib.

A chart is data and words. Colours follow the kind of a contender, not its place, so that ours looks the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .measure import Spread

# What a contender is: "limit" and "base": what nobody can pass, or what all are compared with. "ours". "native": C, Go, Rust.
# "compiled" and "python": peers, by what their own code is; "local", "remote": peers that need no server, or one.
Scale = Literal["linear", "log", "sizes"]  # "sizes": bytes, powers of two, written 64 B, 16 KiB, 4 MiB; logarithmic


@dataclass(frozen=True)
class Axis:
    label: str  # with its unit: "ns a frame"
    scale: Scale = "linear"


@dataclass(frozen=True)
class Line:
    """A line of a `Lines` chart: a spread over each `x`; `kind` is that of the contender."""

    name: str
    kind: str
    x: Sequence[float]
    y: Sequence[Spread]


@dataclass(frozen=True)
class Lines:
    """Something over something, for several; `panels` stand side by side and have one legend and the same axes."""

    name: str  # of its file, without the family and the ending: "read-size"
    title: str
    x: Axis
    y: Axis
    panels: Mapping[str, Sequence[Line]]  # by what stands over the panel; "" for the only one
    note: str = ""  # how to read it, in a sentence or two


@dataclass(frozen=True)
class Bar:
    name: str
    kind: str
    value: Spread


@dataclass(frozen=True)
class Bars:
    """A bar for each contender, lying, with a whisker from quartile to quartile, and its figure written at its end.

    Bars keep the order in which they are given. `marks` are lines that are drawn across: what should be reached, by its text.
    """

    name: str
    title: str
    x: Axis
    panels: Mapping[str, Sequence[Bar]]
    note: str = ""
    marks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Heat:
    """A field of cells, each with its figure: `panels[...][row][column]`, None where nothing was measured.

    `x` and `y` are sizes in bytes, of the columns and of the rows. More is better, and brighter.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    columns: Sequence[int]
    rows: Sequence[int]
    unit: str  # of the cells: "MB/s"
    panels: Mapping[str, Sequence[Sequence[float | None]]]
    note: str = ""


Chart = Lines | Bars | Heat
