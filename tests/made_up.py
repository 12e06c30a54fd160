"""Reports, charts and a family that were never measured, to be drawn."""

from __future__ import annotations

from fastframe.bench.charts import Axis, Bar, Bars, Heat, Line, Lines
from fastframe.bench.family import Family
from fastframe.bench.measure import Spread

SIZES = [64 << 2 * at for at in range(9)]
HOSTILE = "</script><script>alert(1)</script><!-- <b>&\"'%{x}"  # where a text is taken for markup, this does harm
KINDS = {
    "limit": "limit",
    "compiled": "ours",
    "callback/asyncio": "ours",
    "callback/uvloop": "ours",
    "batch/asyncio": "ours",
    "c": "native",
    "msgpack": "compiled",
    HOSTILE: "python",
    "twisted": "python",
    "a name as long as nobody would write it who has to read it": "remote",
}


def around(value):
    return Spread(value * 0.9, value, value * 1.2)


LINES = Lines(
    "lines",
    "Lines",
    Axis("bytes a read", "sizes"),
    Axis("ns a frame", "log"),
    {
        panel: [
            Line(name, kind, SIZES, [around((at + 1) * scale * size**0.5) for size in SIZES])
            for at, (name, kind) in enumerate(KINDS.items())
        ]
        for panel, scale in (("one", 1), ("other", 30))
    },
    "Less is better. " * 12,
)
BARS = Bars(
    "bars",
    "Bars",
    Axis("us a message", "log"),
    {
        f"panel {panel}": [Bar(name, kind, around((at + 1) ** 3 * panel)) for at, (name, kind) in enumerate(KINDS.items())]
        for panel in range(1, 9)
    },
    "Less is better.",
    {"at most 40": 40, "at most 2": 2},
)
FEW_BARS = Bars("few", "Few", Axis("KiB"), {"": [Bar("own", "ours", around(0.7)), Bar("none", "native", Spread(0, 0, 0))]})
HEAT = Heat(
    "heat",
    "Heat",
    Axis("bytes a read", "sizes"),
    Axis("payload", "sizes"),
    SIZES,
    SIZES[:4],
    "MB/s",
    {
        name: [[None if row > column else column * scale for column in SIZES] for row in SIZES[:4]]
        for name, scale in (("a", 1), ("b", 3))
    },
    "More is better.",
)
CHARTS = (LINES, BARS, FEW_BARS, HEAT)


def made_up_report(**more):
    machine = {"cpu": "A CPU", "cores": 2, "kernel": "Linux 6", "python": "CPython 3.11", "fastframe": "0.1.0"}
    return {
        "benchmark": "madeup",
        "quick": True,
        "machine": machine | {"implementation": "cython", "date": "2026-11-22T05:12:36+00:00"},
        "settings": {"asked": HOSTILE},
        "versions": {"peer": "1.2"},
        "contenders": KINDS,
        "does": {name: f"does what {name} does" for name in KINDS},
        "left_out": [f"nobody: {HOSTILE}"],
        "bars": [
            {
                "bar": f"own, times {HOSTILE}",
                "at_most": {"worst": 1.5},
                "reached": {"median": 1.2, "worst": 2.0},
                "passed": False,
                "worst_cell": HOSTILE,
                "over": {HOSTILE: 2.0},
                "cells": 3,
            }
        ],
    } | more


def made_up_family(name="madeup", charts=CHARTS):
    table = (
        "ns a frame",
        ["who", "64 B", HOSTILE],
        [["c", "1,000 ±3 %", "1 KiB"], ["own", "20.5", HOSTILE], ["go", "3", "64 B"]],
    )
    return Family(
        name,
        "what was made up",
        "Measure nothing.",
        "madeup",
        "There is *nothing* to `see`.",
        lambda parser: None,
        lambda args: made_up_report(),
        lambda report: report["bars"],
        lambda report: [table],
        lambda report: iter(()),
        lambda report: list(charts),
    )
