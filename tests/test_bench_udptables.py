"""What the report on echoes of datagrams shows, of rows as they are saved."""

import json

import pytest

from fastframe.bench import bars, udptables


def spread(median):
    return {"lower": 0.9 * median, "median": median, "upper": 1.1 * median}


def row(name, ns, answered):
    paced = {"sent": 90_000, "answered": answered, "percent": spread(answered / 900)}
    cpu = {"cpu_ns": spread(ns), "ratio": {"c": spread(ns / 5000)}, "rate": spread(1e9 / ns), "lost": 3}
    return {"contender": name, **cpu, "paced": paced}


@pytest.fixture
def report():
    rows = [row("c", 5000, 90_000), row("fastframe/asyncio", 12_500, 90_000), row("pure/asyncio", 12_600, 88_200)]
    kinds = {"c": "base", "fastframe/asyncio": "ours", "pure/asyncio": "ours"}
    return json.loads(json.dumps({"contenders": kinds, "settings": {"datagram": "512 B", "pace": 30_000}, "udp": rows}))


def test_the_bars(report):
    cpu, lost = bars.udp_verdicts(report)
    assert (cpu["passed"], cpu["over"], cpu["cells"]) == (False, {"pure/asyncio": 12.6}, 2)
    assert (lost["passed"], lost["over"]) == (False, {"pure/asyncio": 2})
    del report["udp"][2]
    assert [verdict["passed"] for verdict in bars.udp_verdicts(report)] == [True, True]
    del report["udp"][1]
    assert bars.udp_verdicts(report) == []


def test_the_table(report):
    ((title, heads, rows),) = udptables.tables(report)
    assert title == "an echo of a datagram of 512 B"
    assert heads[-2] == "lost at 30,000/s"
    expected = ["12.6 ±10 %", "2.52x", "79,365", "79,365", "3", "2.0 %", "1,800 of 90,000"]
    assert rows[2] == ["pure/asyncio", *expected]
    assert {len(cells) for cells in rows} == {len(heads)}


def test_each_figure_has_a_name_of_its_own(report):
    figures = list(udptables.figures(report))
    assert len({figure.name for figure in figures}) == len(figures) == 6
    cpu, times = (tuple(spread(median).values()) for median in (5000, 1))
    assert figures[0] == ("512 B, c", "ns of the server's processor", cpu, times, "c", "less")
    assert (figures[1].value.median, figures[1].better) == (100, "more")


def test_the_charts(report):
    processor, pace = udptables.charts(report)
    assert [(bar.name, bar.kind, bar.value.median) for bar in processor.panels[""]] == [
        ("c", "base", 5),
        ("fastframe/asyncio", "ours", 12.5),
        ("pure/asyncio", "ours", 12.6),
    ]
    assert processor.marks == {"80,000 a second": 12.5}
    assert [bar.value.median for bar in pace.panels[""]][:2] == [100, 100]
